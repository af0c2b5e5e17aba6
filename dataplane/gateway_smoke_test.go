// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"github.com/isthmus-net/isthmus/dataplane/port"
	"github.com/isthmus-net/isthmus/pkg/pkttest"
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

func gatewayState() *vpc.State {
	st := newState()
	st.Ports[0].ID, st.Ports[1].ID = "consumer", "provider"
	st.LoadBalancers = []vpc.LoadBalancer{{ID: "gwlb", VPC: "vpc-p", Type: vpc.Gateway,
		Nodes:     []vpc.ENI{{Address: nodeAddr, Zone: zone, Ports: []string{"provider"}}},
		Listeners: []vpc.Listener{{TargetGroup: "fw", IdleTimeout: 350 * time.Second}}}}
	st.TargetGroups = []vpc.TargetGroup{{ID: "fw", VPC: "vpc-p",
		Targets: []vpc.Target{{Address: targetAddr.Addr(), Port: 6081, Zone: zone}, {Address: targetAddr.Addr().Next(), Port: 6081, Zone: zone}}}}
	st.Services[0].LoadBalancers = []string{"gwlb"}
	st.Endpoints[0].Type = vpc.GatewayLoadBalancer
	return st
}

// hairpin is what the simplest appliance does with a GENEVE packet: it swaps the outer addresses.
func hairpin(pkt []byte) []byte {
	b := bytes.Clone(pkt)
	copy(b[12:16], pkt[16:20])
	copy(b[16:20], pkt[12:16])
	return b
}

func TestInspection(t *testing.T) {
	b := newBed(t, gatewayState(), Config{})
	src, dst := netip.MustParseAddrPort("10.0.5.5:1234"), netip.MustParseAddrPort("192.0.2.1:80")
	syn := pkttest.TCP{Src: src, Dst: dst, Seq: 100, Flags: "S", Window: 100}.Bytes()
	out, _ := b.fromClient(syn)
	outer := b.one(out)
	t.Log(pkttest.Describe(outer))
	if len(outer) != len(syn)+68 || !bytes.Equal(outer[68:], syn) {
		t.Fatal("the inner packet is not as it was")
	}
	back, _ := b.fromTarget(hairpin(outer))
	if got := b.one(back); !bytes.Equal(got, syn) {
		t.Fatal(pkttest.Diff(syn, got))
	}
	// the answer, through the same endpoint
	ack := pkttest.TCP{Src: dst, Dst: src, Seq: 500, Ack: 101, Flags: "SA", Window: 100}.Bytes()
	out, _ = b.fromClient(ack)
	again := b.one(out)
	if !bytes.Equal(again[:20], outer[:20]) && again[19] != outer[19] {
		t.Fatal("the answer went to another appliance")
	}
	// bulk
	super := port.NewBuffer()
	super.Set(pkttest.Partial(pkttest.TCP{Src: src, Dst: dst, Seq: 101, Ack: 501, Flags: "PA", Window: 100, Payload: make([]byte, 50001)}.Bytes()))
	super.Offload = port.Offload{Flags: port.NeedsCsum, GSOType: port.GSOTCPv4, HdrLen: 40, GSOSize: 8460, CsumStart: 20, CsumOffset: 16}
	b.consumer.InjectBuffers(0, super)
	b.step(0)
	sent := b.provider.TakeBuffers(0)
	t.Log(len(sent), sent[0].Offload, sent[0].Len(), b.drops())
	for _, s := range sent {
		flat := s.Bytes()
		copy(flat, hairpin(flat[:20]))
		b.provider.InjectBuffers(0, s)
	}
	b.step(0)
	got := b.consumer.TakeBuffers(0)
	t.Log(len(got), got[0].Offload, got[0].Len(), b.drops())
	var seg port.Segmenter
	n := 0
	cut := port.NewBuffer()
	for _, g := range got {
		seg.Start(g)
		for seg.Next(cut) {
			pkttest.Verify(t, cut.Bytes())
			n += len(pkttest.Decode(t, cut.Bytes()).TCP.Payload)
		}
	}
	if n != 50001 {
		t.Fatalf("%d bytes came back, want 50001; drops %v", n, b.drops())
	}
}
