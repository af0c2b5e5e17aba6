// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/isthmus-net/isthmus/dataplane"
	"github.com/isthmus-net/isthmus/dataplane/port"
	"github.com/isthmus-net/isthmus/pkg/netns"
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// Names in the state; one zone is enough.
const (
	consumerPort = "consumer"
	providerPort = "provider"
	zone         = "use1-az1"
)

// startIsthmus is the dataplane's process: the engine without the control plane.
func startIsthmus(spec []byte) (*helper, error) {
	var s tunnelSpec
	if err := decode(spec, &s); err != nil {
		return nil, err
	}
	state := benchState(&s)
	if s.Inspected {
		state = gatewayState(&s)
	}
	if err := state.Validate(); err != nil {
		return nil, err
	}
	ports := map[string]port.Port{}
	offloads := ""
	for _, p := range state.Ports {
		tun, err := openTUN(p, s.Workers, s.Inspected && p.ID == consumerPort)
		if err != nil {
			return nil, err
		}
		ports[p.ID] = tun
		offloads = describeOffloads(tun.Offloads())
	}
	engine, err := dataplane.New(dataplane.Config{Workers: s.Workers, Pin: s.Pin})
	if err != nil {
		return nil, err
	}
	if err := engine.Apply(state, ports); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		err := engine.Run(ctx)
		if ctx.Err() == nil {
			fmt.Fprintln(os.Stderr, "engine ended:", err)
			os.Exit(1)
		}
		ended <- err
	}()
	stop := func() {
		sayDrops(engine.Stats())
		cancel()
		<-ended
	}
	return &helper{ready: ready{Offloads: offloads}, stop: stop}, nil
}

// openTUN opens one of the dataplane's devices and sets it up, for transit where a GWLB endpoint is on it.
func openTUN(p vpc.Port, queues int, transit bool) (tun *port.TUN, err error) {
	ns, err := netns.Open(p.Netns)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	err = netns.Do(ns, func() (err error) {
		tun, err = port.OpenTUN(port.Config{Name: p.ID, Device: p.Device, Queues: queues})
		return err
	})
	if err != nil {
		return nil, err
	}
	return tun, netns.ConfigurePort(ns, p.Device, netns.PortOptions{Addresses: p.Addresses, Routes: netns.MainRoutes(p.Routes)})
}

// benchState is one interface endpoint of one service: a listener, a target group and a target for each port of the load. The
// service's address is the endpoint's, the node's a load balancer's.
func benchState(s *tunnelSpec) *vpc.State {
	consumer := vpc.VPC{ID: "vpc-0000000000000c11e", CIDRs: []netip.Prefix{service.Masked()}}
	provider := vpc.VPC{ID: "vpc-0000000000000a1b0", CIDRs: []netip.Prefix{target.Masked()}}
	balancer := vpc.LoadBalancer{
		ID: "nlb-bench", VPC: provider.ID,
		Nodes: []vpc.ENI{{Address: node.Addr(), Zone: zone, Ports: []string{providerPort}}},
	}
	offer := vpc.EndpointService{ID: "vpce-svc-0000000000000be9c", LoadBalancers: []string{balancer.ID}}
	state := &vpc.State{
		Revision: 1,
		HashKey:  [16]byte{1},
		VPCs:     []vpc.VPC{consumer, provider},
		Ports: []vpc.Port{
			{ID: consumerPort, VPC: consumer.ID, Kind: vpc.TUN, Netns: s.Consumer, Device: device, Addresses: clients},
			{ID: providerPort, VPC: provider.ID, Kind: vpc.TUN, Netns: s.Provider, Device: device,
				Addresses: []netip.Prefix{target}},
		},
		Services: []vpc.EndpointService{offer},
		Endpoints: []vpc.Endpoint{{
			ID: "vpce-00000000000000be9", Service: offer.ID, VPC: consumer.ID,
			ENIs: []vpc.ENI{{Address: service.Addr(), Zone: zone, Ports: []string{consumerPort}}},
		}},
	}
	for n := range s.Load.Ports {
		group := targetGroup(provider.ID, s.Load.Service.Port()+uint16(n), s.Load.Header)
		balancer.Listeners = append(balancer.Listeners, vpc.Listener{
			Port: group.Targets[0].Port, TargetGroup: group.ID, IdleTimeout: 350 * time.Second,
		})
		state.TargetGroups = append(state.TargetGroups, group)
	}
	state.LoadBalancers = []vpc.LoadBalancer{balancer}
	return state
}

// gatewayState is one GWLB endpoint, in the router, of a service with one appliance.
func gatewayState(s *tunnelSpec) *vpc.State {
	consumer := vpc.VPC{ID: "vpc-0000000000000c11e", CIDRs: []netip.Prefix{routerIn.Masked(), routerOut.Masked()}}
	provider := vpc.VPC{ID: "vpc-0000000000000a1b0", CIDRs: []netip.Prefix{appliance.Masked()}}
	group := vpc.TargetGroup{
		ID: "tg-appliances", VPC: provider.ID,
		HealthCheck:         vpc.HealthCheck{Protocol: vpc.CheckNone},
		DeregistrationDelay: 300 * time.Second,
		Targets:             []vpc.Target{{Address: appliance.Addr(), Port: vpc.GenevePort, Zone: zone}},
	}
	balancer := vpc.LoadBalancer{
		ID: "gwlb-bench", VPC: provider.ID, Type: vpc.Gateway,
		Nodes:     []vpc.ENI{{Address: gatewayNode.Addr(), Zone: zone, Ports: []string{providerPort}}},
		Listeners: []vpc.Listener{{TargetGroup: group.ID, IdleTimeout: 350 * time.Second}},
	}
	offer := vpc.EndpointService{ID: "vpce-svc-0000000000000be9c", LoadBalancers: []string{balancer.ID}}
	return &vpc.State{
		Revision: 1,
		HashKey:  [16]byte{1},
		VPCs:     []vpc.VPC{consumer, provider},
		Ports: []vpc.Port{
			{ID: consumerPort, VPC: consumer.ID, Kind: vpc.TUN, Netns: s.Consumer, Device: hop},
			{ID: providerPort, VPC: provider.ID, Kind: vpc.TUN, Netns: s.Provider, Device: device,
				Addresses: []netip.Prefix{appliance}},
		},
		LoadBalancers: []vpc.LoadBalancer{balancer},
		TargetGroups:  []vpc.TargetGroup{group},
		Services:      []vpc.EndpointService{offer},
		Endpoints: []vpc.Endpoint{{
			ID: "vpce-00000000000000be9", Type: vpc.GatewayLoadBalancer, Service: offer.ID, VPC: consumer.ID,
			ENIs: []vpc.ENI{{Address: endpointENI, Zone: zone, Ports: []string{consumerPort}}},
		}},
	}
}

// targetGroup has the server as its only target, without health checks.
func targetGroup(vpcID string, port uint16, header bool) vpc.TargetGroup {
	return vpc.TargetGroup{
		ID: fmt.Sprintf("tg-%d", port), VPC: vpcID,
		ProxyProtocol:       vpc.ProxyProtocol{Enabled: header},
		HealthCheck:         vpc.HealthCheck{Protocol: vpc.CheckNone},
		DeregistrationDelay: 300 * time.Second,
		Targets:             []vpc.Target{{Address: target.Addr(), Port: port, Zone: zone}},
	}
}

func describeOffloads(o port.Offloads) string {
	var on []string
	for _, offload := range []struct {
		name string
		on   bool
	}{{"vnet_hdr", o.VNetHdr}, {"csum", o.Csum}, {"tso", o.TSO}, {"uso", o.USO}} {
		if offload.on {
			on = append(on, offload.name)
		}
	}
	return strings.Join(append(on, o.Reasons...), " ")
}

// sayDrops leaves what the dataplane dropped on the error output, which is shown when the round is void.
func sayDrops(stats dataplane.Stats) {
	for reason, n := range stats.Drops {
		if n > 0 {
			fmt.Fprintf(os.Stderr, "dropped %d: %s\n", n, dataplane.Reason(reason))
		}
	}
	for _, p := range stats.Ports {
		if p.TxRefused > 0 {
			fmt.Fprintf(os.Stderr, "port %s refused %d\n", p.ID, p.TxRefused)
		}
	}
}
