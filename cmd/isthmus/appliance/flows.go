// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package appliance

import (
	"bytes"
	"time"

	"github.com/isthmus-net/isthmus/pkg/wire"
)

// DefaultMaxFlows is how many flows an appliance remembers unless told otherwise.
const DefaultMaxFlows = 1 << 16

// flowIdle is how long a flow is remembered without a packet: as long as a load balancer remembers TCP by default.
const flowIdle = 350 * time.Second

// flowKey names a flow in both of its directions.
type flowKey struct {
	scope uint64 // what addresses are unique in: the endpoint, or 0 where all share a device
	a, b  [16]byte
	aPort uint16
	bPort uint16
	proto uint8
}

// keyOf is the flow of a tuple, and the tuple's direction in it: 0 from a to b. A protocol without ports has one flow between
// two addresses.
func keyOf(scope uint64, t *wire.Tuple) (k flowKey, way int) {
	k = flowKey{scope: scope, a: t.Src, b: t.Dst, aPort: t.SrcPort, bPort: t.DstPort, proto: t.Proto}
	if order := bytes.Compare(t.Src[:], t.Dst[:]); order > 0 || order == 0 && t.SrcPort > t.DstPort {
		k.a, k.b, k.aPort, k.bPort = k.b, k.a, k.bPort, k.aPort
		return k, 1
	}
	return k, 0
}

// flow is what is remembered of a flow, for each direction.
type flow struct {
	key   flowKey
	seen  time.Duration // when its last packet came, since the appliance's start
	first int           // direction of its first packet
	ways  [2]way
}

// way is one direction of a flow. Nothing has come in it while its header is empty.
type way struct {
	route           // that answers take
	header   []byte // GENEVE header and options of the last datagram
	geneve   wire.GeneveAWS
	endpoint *endpoint
	in, out  Traffic
	dropped  uint64
}

// flowTable holds the flows heard of last.
type flowTable struct {
	flows *lru[flowKey, flow]
	last  *flow // found by the last find: datagrams of a flow come in rows
}

func newFlowTable(most int) *flowTable {
	t := &flowTable{}
	t.flows = newLRU(most, func(_ flowKey, f *flow) {
		if t.last == f {
			t.last = nil
		}
	})
	return t
}

// find is a flow that is live at the time now, or nil.
func (t *flowTable) find(k *flowKey, now time.Duration) *flow {
	if t.last == nil || t.last.key != *k {
		f := t.flows.get(*k)
		if f == nil {
			return nil
		}
		t.last = f
	}
	if now-t.last.seen > flowIdle {
		return nil
	}
	return t.last
}

// open is a flow that find does not find: new, or the idle one of the key, forgotten.
func (t *flowTable) open(k *flowKey) *flow {
	f := t.flows.get(*k)
	if f == nil {
		f = t.flows.add(*k)
	}
	*f = flow{key: *k}
	t.last = f
	return f
}

// forget drops flows that have been idle for too long.
func (t *flowTable) forget(now time.Duration) {
	for f := t.flows.oldest(); f != nil && now-f.seen > flowIdle; f = t.flows.oldest() {
		t.flows.evict()
	}
}

// answering is the direction whose header a packet in the given direction goes back under: its own, or the other's where nothing
// has come in it yet, such as an answer that the host itself gives.
func (f *flow) answering(direction int) *way {
	if len(f.ways[direction].header) > 0 {
		return &f.ways[direction]
	}
	return &f.ways[1-direction]
}
