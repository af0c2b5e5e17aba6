// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"net/netip"
	"time"

	"github.com/isthmus-net/isthmus/dataplane/balance"
	"github.com/isthmus-net/isthmus/dataplane/flow"
	"github.com/isthmus-net/isthmus/dataplane/port"
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// view is all that workers read and do not own: one immutable compilation of a state, swapped whole. Its slices are
// indexed by slot; an unused slot has generation 0.
type view struct {
	revision uint64
	key      [16]byte // of the choice of targets
	ports    []viewPort
	enis     []viewENI
	targets  []viewTarget
	addrs    addrTable
	known    addrTable        // addresses of ENIs on any port
	pools    map[poolID]*pool // kept to share tables with the next view
	groups   map[string]*group
	limiters map[limitID]*limiter
	probes   []ProbeRoute
}

type viewPort struct {
	gen  uint16
	id   string
	port port.Port
	// gateway is the GWLB endpoint that takes whatever arrives here for no ENI's address, or -1.
	gateway int32
	transit bool // some GWLB endpoint is a next hop here
}

// viewENI is an ENI. What every packet needs stands together in front.
type viewENI struct {
	gen  uint16
	role Role
	// gone marks an ENI that has left the state. It keeps its place for a while, so that its connections can be ended
	// with RST instead of vanishing.
	gone     bool
	filtered bool     // endpoint: groups say who may connect
	node     flow.Ref // endpoint and probe: the node it leads to; node: itself
	addr     [16]byte
	limiter  *limiter // endpoint: its bandwidth in this zone; nil without limit
	counters []*block // by worker

	groups      []*group
	goneAt      time.Duration
	owner       string // ID of the endpoint or load balancer
	vpc, zone   string
	ports       []uint16       // slots
	listeners   []viewListener // endpoint: sorted by port
	egress      []egress       // node: longest prefix first
	probeTarget int            // probe: slot
	gateway     *viewGateway   // GWLB endpoint
}

// egress is a port of a node and a prefix that is reached through it; every port of the node is one for all addresses.
type egress struct {
	prefix netip.Prefix
	port   flow.Ref
}

type viewListener struct {
	port       uint16
	idleTenths uint16
	pool       *pool
}

// limitID is what has a bandwidth of its own.
type limitID struct {
	endpoint   string
	generation uint32
	zone       string
}

type poolID struct{ loadBalancer, zone, group string }

// pool is the targets that new connections of a node may go to, by the table's index.
type pool struct {
	table   *balance.Table
	members []netip.AddrPort // what the table was made of
	targets []uint16         // slots
}

type viewTarget struct {
	gen      uint16
	deny     Reason // why connections to it end, Unexplained while they live
	id       TargetID
	zone     string
	addr     [16]byte
	port     uint16
	draining bool
	health   Health
	proxy    vpc.ProxyProtocol
	counters []*block // by worker
}

func (t *viewTarget) early() bool { return t.proxy.Placement == vpc.FirstACK }

// hasENI says whether the ENI a flow names is still the one it named.
func (v *view) hasENI(r flow.Ref) bool {
	return r.Gen != 0 && int(r.Slot) < len(v.enis) && v.enis[r.Slot].gen == r.Gen && !v.enis[r.Slot].gone
}

// hasPort says whether the port a flow names is still the one it named.
func (v *view) hasPort(r flow.Ref) bool {
	return r.Gen != 0 && int(r.Slot) < len(v.ports) && v.ports[r.Slot].gen == r.Gen
}

// target is the target a flow names, or nil when it is gone.
func (v *view) target(r flow.Ref) *viewTarget {
	if r.Gen != 0 && int(r.Slot) < len(v.targets) && v.targets[r.Slot].gen == r.Gen {
		return &v.targets[r.Slot]
	}
	return nil
}

// verdict says why a flow may not go on under this view; Unexplained means that it may.
func (v *view) verdict(e *flow.Entry) Reason {
	t := v.target(e.TargetRef)
	if t == nil || !v.hasENI(e.Endpoint) || !v.hasENI(e.Node) || !v.hasPort(e.ClientSide) || !v.hasPort(e.TargetSide) {
		return FlowRemoved
	}
	if t.deny != Unexplained && e.Flags&flow.Probe == 0 {
		return t.deny
	}
	return Unexplained
}

// listener is the endpoint's listener on a TCP port, or nil.
func (n *viewENI) listener(port uint16) *viewListener {
	low, high := 0, len(n.listeners)
	for low < high {
		mid := (low + high) / 2
		if n.listeners[mid].port < port {
			low = mid + 1
		} else {
			high = mid
		}
	}
	if low < len(n.listeners) && n.listeners[low].port == port {
		return &n.listeners[low]
	}
	return nil
}

// toward is the port by which a node reaches a target: that of the longest prefix that holds the address.
func (n *viewENI) toward(addr [16]byte) flow.Ref {
	a := netip.AddrFrom16(addr).Unmap()
	for _, e := range n.egress {
		if e.prefix.Contains(a) {
			return e.port
		}
	}
	return flow.Ref{}
}
