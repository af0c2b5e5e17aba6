// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
	"github.com/isthmus-net/isthmus/dataplane"
	"github.com/isthmus-net/isthmus/pkg/vpc"
	"github.com/isthmus-net/isthmus/pkg/wire"
)

// flowBatch is how many flows go into one message.
const flowBatch = 512

// Flows sends the flows that the request picks, some to a message.
func (i inspector) Flows(req *apiv1.FlowsRequest, out grpc.ServerStreamingServer[apiv1.FlowsResponse]) error {
	picks, err := flowFilter(req)
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	var batch []*apiv1.Flow
	var sent uint64
	var failed error
	sees := i.sees(out.Context())
	err = i.daemon.Flows(out.Context(), func(f dataplane.FlowInfo) bool {
		if !share(&f, sees) || !picks(&f) {
			return true
		}
		batch = append(batch, flowToProto(&f))
		sent++
		if len(batch) == flowBatch {
			failed, batch = out.Send(&apiv1.FlowsResponse{Flows: batch}), nil
		}
		return failed == nil && (req.Limit == 0 || sent < req.Limit)
	})
	if failed != nil {
		return failed
	}
	if err != nil {
		return status.FromContextError(err).Err()
	}
	if len(batch) > 0 {
		return out.Send(&apiv1.FlowsResponse{Flows: batch})
	}
	return nil
}

// share leaves of a flow what the caller may see: a consumer sees his clients, a provider his nodes and targets. It says
// whether that is anything.
func share(f *dataplane.FlowInfo, sees func(id string) bool) bool {
	consumer := f.Endpoint != "" && sees(f.Endpoint)
	for _, end := range f.Ends {
		consumer = consumer || end.Endpoint != "" && sees(end.Endpoint)
	}
	provider := sees(f.LoadBalancer)
	if !provider {
		f.LoadBalancer, f.NodeAddress, f.Target, f.Cookie = "", netip.AddrPort{}, netip.AddrPort{}, 0
	}
	if !consumer {
		f.Endpoint, f.Client, f.EndpointAddress = "", netip.AddrPort{}, netip.AddrPort{}
		f.Ends = [2]dataplane.FlowEnd{}
	}
	return consumer || provider
}

// flowFilter makes a predicate of a request.
func flowFilter(req *apiv1.FlowsRequest) (func(*dataplane.FlowInfo) bool, error) {
	var address netip.Addr
	var port uint16
	if strings.Contains(req.Target, ":") {
		target, err := netip.ParseAddrPort(req.Target)
		if err != nil {
			return nil, err
		}
		address, port = target.Addr(), target.Port()
	} else if req.Target != "" {
		target, err := netip.ParseAddr(req.Target)
		if err != nil {
			return nil, err
		}
		address = target
	}
	return func(f *dataplane.FlowInfo) bool {
		return (req.EndpointId == "" || passes(f, req.EndpointId)) &&
			(!address.IsValid() || address == f.Target.Addr()) &&
			(port == 0 || port == f.Target.Port())
	}, nil
}

// passes says whether a flow passes an endpoint.
func passes(f *dataplane.FlowInfo, endpoint string) bool {
	if f.Inspected {
		return f.Ends[0].Endpoint == endpoint || f.Ends[1].Endpoint == endpoint
	}
	return f.Endpoint == endpoint
}

func flowToProto(f *dataplane.FlowInfo) *apiv1.Flow {
	out := &apiv1.Flow{
		Worker:         uint32(f.Worker),
		LoadBalancerId: f.LoadBalancer,
		ZoneId:         f.Zone,
		NodeAddress:    addrPortText(f.NodeAddress),
		Target:         addrPortText(f.Target),
		State:          f.State.String(),
		Idle:           durationpb.New(time.Duration(f.Idle) * time.Millisecond),
		Protocol:       protocolText(f.Protocol),
	}
	if f.Inspected {
		out.Inspection = inspectionToProto(f)
		return out
	}
	out.EndpointId = f.Endpoint
	out.Client, out.EndpointAddress = addrPortText(f.Client), addrPortText(f.EndpointAddress)
	out.Proxy, out.BytesOut, out.BytesIn = f.Proxy, f.BytesOut, f.BytesIn
	return out
}

func inspectionToProto(f *dataplane.FlowInfo) *apiv1.Inspection {
	out := &apiv1.Inspection{
		Kind:   [...]string{vpc.FiveTuple: "5-tuple", vpc.ThreeTuple: "3-tuple", vpc.TwoTuple: "2-tuple"}[f.Kind],
		Cookie: fmt.Sprintf("%08x", f.Cookie),
	}
	for _, end := range f.Ends {
		if !end.Address.IsValid() {
			continue
		}
		e := &apiv1.InspectedEnd{Address: end.Address.Addr().String(), EndpointId: end.Endpoint, Bytes: end.Bytes}
		if f.Kind == vpc.FiveTuple {
			e.Address = end.Address.String()
		}
		out.Ends = append(out.Ends, e)
	}
	return out
}

// addrPortText is empty for what is not known.
func addrPortText(a netip.AddrPort) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// protocols are the names of those that are often seen. Number 0 stands for any.
var protocols = map[uint8]string{
	0: "", wire.ProtoTCP: "tcp", wire.ProtoUDP: "udp", wire.ProtoICMP: "icmp", wire.ProtoICMPv6: "icmpv6", wire.ProtoGRE: "gre",
	wire.ProtoESP: "esp",
}

// protocolText is the name of an IP protocol, or its number.
func protocolText(protocol uint8) string {
	if name, ok := protocols[protocol]; ok {
		return name
	}
	return strconv.Itoa(int(protocol))
}
