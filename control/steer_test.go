// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"testing"

	"github.com/isthmus-net/isthmus/dataplane"
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// TestPortUses looks at ports of clients, of nodes, and of GWLB endpoints with and without ports in their flows' keys.
func TestPortUses(t *testing.T) {
	at := func(id string) []vpc.ENI { return []vpc.ENI{{Ports: []string{id}}} }
	s := &vpc.State{
		TargetGroups: []vpc.TargetGroup{{ID: "web"}, {ID: "five"}, {ID: "two", Stickiness: vpc.TwoTuple}},
		LoadBalancers: []vpc.LoadBalancer{
			{ID: "nlb", Nodes: at("node"), Listeners: []vpc.Listener{{TargetGroup: "web"}}},
			{ID: "gw5", Type: vpc.Gateway, Nodes: at("gateway"), Listeners: []vpc.Listener{{TargetGroup: "five"}}},
			{ID: "gw2", Type: vpc.Gateway, Nodes: at("gateway"), Listeners: []vpc.Listener{{TargetGroup: "two"}}},
		},
		Services: []vpc.EndpointService{{ID: "s", LoadBalancers: []string{"nlb"}}, {ID: "s5", LoadBalancers: []string{"gw5"}},
			{ID: "s2", LoadBalancers: []string{"gw2"}}},
		Endpoints: []vpc.Endpoint{{Service: "s", ENIs: at("client")}, {Service: "s5", ENIs: at("five")}, {Service: "s2", ENIs: at("two")}},
	}
	uses := portUses(s)
	for id, want := range map[string]dataplane.PortUse{"client": dataplane.ByFlow, "node": dataplane.ByNATPort,
		"gateway": dataplane.ByFlow, "five": dataplane.ByFlow, "two": dataplane.ByAddresses} {
		if uses[id] != want {
			t.Errorf("port %s is used as %d, want %d", id, uses[id], want)
		}
	}
}
