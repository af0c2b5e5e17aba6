// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"fmt"
	"testing"

	"github.com/isthmus-net/isthmus/dataplane/port"
	"github.com/isthmus-net/isthmus/pkg/pkttest"
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// TestEndpointOnManyPortsIsRemoved removes an endpoint that is reached through many ports, as many pods share one: all
// its addresses keep their places for a while.
func TestEndpointOnManyPortsIsRemoved(t *testing.T) {
	st := newState()
	for i := range 100 {
		id := fmt.Sprintf("pod-%d", i)
		st.Ports = append(st.Ports, vpc.Port{ID: id, VPC: "vpc-c", Kind: vpc.TUN, Netns: "/" + id, Device: "c0"})
		st.Endpoints[0].ENIs[0].Ports = append(st.Endpoints[0].ENIs[0].Ports, id)
	}
	b := newBed(t, newState(), Config{})
	for _, p := range st.Ports[2:] {
		b.ports[p.ID] = port.NewMem(port.MemConfig{Name: p.ID})
	}
	b.apply(st)
	removed := *st
	removed.Endpoints = nil
	b.apply(&removed)
	if back, _ := b.fromClient(pkttest.TCP{Src: clientAddr, Dst: endpointAddr, Seq: 1, Flags: "S"}.Bytes()); len(back) != 0 || b.dropped(NoENI) != 1 {
		t.Errorf("a removed endpoint forwards; drops %v", b.drops())
	}
}
