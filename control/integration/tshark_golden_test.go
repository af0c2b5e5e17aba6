// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/gopacket/gopacket/pcapgo"

	"github.com/isthmus-net/isthmus/dataplane/port"
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// golden is where the dataplane's scenarios keep the packets that go in and out.
const golden = "../../dataplane/testdata"

// wrongOnPurpose are scenarios, with the port, in which the dataplane is given what tshark complains about, too.
var wrongOnPurpose = map[string]string{
	"gwlb-changed-outside/in.provider":        "a TTL of 2, as one appliance sends",
	"gwlb-geneve-protocol/in.provider":        "the inner packet is another than the header says",
	"gwlb-geneve-truncated/in.provider":       "cut at every place",
	"gwlb-geneve-version/in.provider":         "versions 1 and 3",
	"gwlb-malformed/in.consumer":              "cut headers",
	"gwlb-next-hop-only/in.consumer":          "a datagram for port 6081 that is no GENEVE packet",
	"gwlb-not-forwardable/in.consumer":        "multicast with a TTL of a router's packet",
	"gwlb-not-geneve/in.provider":             "no GENEVE packet",
	"gwlb-outer-checksum/in.provider":         "a wrong checksum",
	"gwlb-unknown-segment-silent/in.consumer": "RST with an acknowledgment number but no ACK",
}

// goldenPacket is a packet of a scenario.
type goldenPacket struct {
	file   string // scenario/in.PORT or scenario/out.PORT
	number int    // in the file, from 1
	data   []byte
}

func (p goldenPacket) sent() bool { return strings.Contains(p.file, "/out.") }

// TestTsharkGolden has tshark dissect what the dataplane sends and receives in every scenario with a gateway load
// balancer. It must not complain about what is sent, has to complain about what is wrong on purpose, and has to read in
// each GENEVE header what AWS's form says.
func TestTsharkGolden(t *testing.T) {
	packets := goldenPackets(t)
	data := make([][]byte, len(packets))
	for i, p := range packets {
		data[i] = p.data
	}
	complained, shaped := map[string]bool{}, 0
	for i, d := range dissect(t, data) {
		p := packets[i]
		if len(d.complaints) > 0 {
			complained[p.file] = true
			if _, ok := wrongOnPurpose[p.file]; !ok {
				t.Errorf("%s, packet %d (%s): %v\n%x", p.file, p.number, d.protocols, d.complaints, p.data)
			}
		}
		if !p.sent() || !strings.HasPrefix(d.protocols, "raw:ip:udp:geneve:") {
			continue
		}
		shaped++
		cookie := binary.BigEndian.Uint32(p.data[64:])
		if want := geneveAsAWS(binary.BigEndian.Uint16(p.data[30:]), binary.BigEndian.Uint64(p.data[40:]), cookie); !slices.Equal(d.fields, want) {
			t.Errorf("%s, packet %d: tshark reads %q, want %q", p.file, p.number, d.fields, want)
		}
	}
	for file, what := range wrongOnPurpose {
		if !complained[file] {
			t.Errorf("%s: tshark has nothing to say, though there should be wrong: %s", file, what)
		}
	}
	t.Logf("%d packets, of which %d are sent to appliances", len(packets), shaped)
	if shaped < 100 {
		t.Errorf("only %d packets are sent to appliances", shaped)
	}
}

// TestGoldenShape compares what the dataplane sends to appliances in the scenarios with AWS's form, byte for byte.
func TestGoldenShape(t *testing.T) {
	exact, cut := 0, 0
	for _, p := range goldenPackets(t) {
		if !strings.HasPrefix(filepath.Base(p.file), "out.provider") || len(p.data) < outerLength || p.data[9] != 17 ||
			binary.BigEndian.Uint16(p.data[22:]) != vpc.GenevePort {
			continue
		}
		nodes, targets, endpoints := goldenPlan(t, filepath.Dir(p.file))
		node, target := netip.AddrFrom4([4]byte(p.data[12:])), netip.AddrFrom4([4]byte(p.data[16:]))
		endpoint := binary.BigEndian.Uint64(p.data[40:])
		if !slices.Contains(nodes, node) || !slices.Contains(targets, target) || !slices.Contains(endpoints, endpoint) {
			t.Errorf("%s, packet %d: from %s to %s, endpoint %x, of nodes %v, appliances %v and endpoints %x",
				p.file, p.number, node, target, endpoint, nodes, targets, endpoints)
		}
		err := awsShape(p.data, node, target, endpoint, true)
		if err != nil {
			t.Errorf("%s, packet %d: %v", p.file, p.number, err)
		}
		if awsShape(p.data, node, target, endpoint, false) == nil {
			exact++
		} else if err == nil {
			cut++
		}
	}
	t.Logf("%d packets have AWS's form to the last byte, %d were cut from super-packets", exact, cut)
	if exact < 100 {
		t.Errorf("only %d packets for appliances have AWS's form to the last byte", exact)
	}
}

// TestShapeSeesEveryByte changes each byte of the outer headers of a packet that is right. But for the cookie, and those
// bits of the source port that a flow may choose, none may be another.
func TestShapeSeesEveryByte(t *testing.T) {
	packet := readPcap(t, filepath.Join(golden, "gwlb-ipv6-inspected", "out.provider.pcap"))[0]
	node, target := netip.AddrFrom4([4]byte(packet[12:])), netip.AddrFrom4([4]byte(packet[16:]))
	check := func() error { return awsShape(packet, node, target, inspectedEndpoint, true) }
	if err := check(); err != nil {
		t.Fatal(err)
	}
	for at := range outerLength {
		for bit := range 8 {
			packet[at] ^= 1 << bit
			free := at == 21 || at == 20 && bit < 6 || at >= 64
			if err := check(); (err == nil) != free {
				t.Errorf("bit %d of byte %d is free: %v, and then the verdict is %v", bit, at, free, err)
			}
			packet[at] ^= 1 << bit
		}
	}
}

// goldenPackets are all packets of the scenarios with a gateway load balancer.
func goldenPackets(t *testing.T) (list []goldenPacket) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(golden, "gwlb-*", "*.pcap"))
	if err != nil || len(files) == 0 {
		t.Fatalf("there are no golden packets in %s (%v)", golden, err)
	}
	for _, file := range files {
		name, err := filepath.Rel(golden, strings.TrimSuffix(file, ".pcap"))
		if err != nil {
			t.Fatal(err)
		}
		for i, data := range readPcap(t, file) {
			list = append(list, goldenPacket{file: name, number: i + 1, data: data})
		}
	}
	return list
}

func readPcap(t *testing.T, file string) (packets [][]byte) {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	r, err := pcapgo.NewReader(bytes.NewReader(content))
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	for {
		data, _, err := r.ReadPacketData()
		if err == io.EOF {
			return packets
		}
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		packets = append(packets, data)
	}
}

// gatewayID is the id of an endpoint; the last 16 digits are its number.
var gatewayID = regexp.MustCompile(`^vpce-[0-9a-f]([0-9a-f]{16})$`)

// goldenPlan reads from the states of a scenario which nodes, appliances and endpoints there are.
func goldenPlan(t *testing.T, scenario string) (nodes, targets []netip.Addr, endpoints []uint64) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(golden, scenario, "state*.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var s vpc.State
		if err := json.Unmarshal(content, &s); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, lb := range s.LoadBalancers {
			for _, node := range lb.Nodes {
				nodes = append(nodes, node.Address)
			}
		}
		for _, group := range s.TargetGroups {
			for _, target := range group.Targets {
				targets = append(targets, target.Address)
			}
		}
		for _, e := range s.Endpoints {
			if id := gatewayID.FindStringSubmatch(e.ID); id != nil {
				number, err := strconv.ParseUint(id[1], 16, 64)
				if err != nil {
					t.Fatal(err)
				}
				endpoints = append(endpoints, number)
			}
		}
	}
	return nodes, targets, endpoints
}

// TestTsharkLive has tshark dissect what real kernels exchange through an appliance, before and behind it, with no
// offloads, so that every packet is complete.
func TestTsharkLive(t *testing.T) {
	find(t, "tshark")
	find(t, "nft")
	n := newInspection(t, kernelPeer, port.Switches{Offloads: true})
	router := watch(t, n.router)
	n.serve()
	for family := range families {
		for _, kind := range kinds {
			n.talk(t, family, kind)
		}
	}
	n.nothingDropped(t)
	n.settle()
	n.shaped(t)
	var packets [][]byte
	for _, c := range []*capture{router, n.firewalls[0].wire, n.firewalls[1].wire} {
		for _, p := range c.find(func(captured) bool { return true }) {
			packets = append(packets, p.IPv4)
		}
	}
	inside := map[string]int{}
	for i, d := range dissect(t, packets) {
		if len(d.complaints) > 0 {
			t.Errorf("packet %d (%s): %v\n%x", i, d.protocols, d.complaints, packets[i][:min(200, len(packets[i]))])
		}
		if protocols, ok := strings.CutPrefix(d.protocols, "raw:ip:udp:geneve:"); ok {
			inside[protocols]++
			b := packets[i]
			want := geneveAsAWS(binary.BigEndian.Uint16(b[30:]), inspectedEndpoint, binary.BigEndian.Uint32(b[64:]))
			if !slices.Equal(d.fields, want) {
				t.Errorf("packet %d: tshark reads %q, want %q", i, d.fields, want)
			}
		}
	}
	for _, kind := range []string{
		"ip:tcp", "ip:udp:data", "ip:icmp:data", "ip:gre:ip:udp:data", "ipv6:tcp", "ipv6:udp:data", "ipv6:icmpv6:data", "ipv6:gre:ipv6:udp:data",
	} {
		if inside[kind] == 0 {
			t.Errorf("no %s was inside GENEVE, only %v", kind, inside)
		}
	}
	t.Logf("%d packets, inside GENEVE were %v", len(packets), inside)
}
