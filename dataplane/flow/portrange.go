// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package flow

// The source ports of a load balancer node toward one target, 65,536 less the first 1,024. The guide allows 55,000
// simultaneous connections to each unique target.
const (
	NATBase    = 10536 // first port of connections
	NATCount   = 55000
	ProbeBase  = 1024 // first port of health checks
	ProbeCount = 9512
)

var (
	_ [0]struct{} = [ProbeBase + ProbeCount - NATBase]struct{}{}
	_ [0]struct{} = [NATBase + NATCount - 65536]struct{}{}
)

// PortQuiet is how long a port rests after its flow has closed, in milliseconds: the target's TIME-WAIT, and the
// reading of "55,000 per minute" in the guide.
const PortQuiet = 60_000

// Slice is the part of the ports that one worker leases: count ports from base on, of those for health checks if probe
// is set, else of those for connections. All slices of a range are equally long; a remainder of less than workers ports
// at the end of the range is left unused. Workers must be 1 or more, and worker from 0 to workers-1.
func Slice(worker, workers int, probe bool) (base, count int) {
	base, count = NATBase, NATCount/workers
	if probe {
		base, count = ProbeBase, ProbeCount/workers
	}
	return base + worker*count, count
}

// Owner is the worker in whose Slice a port is, which is the worker that has the flow of a reply to that port. It is -1
// for a port that no worker leases. Workers must be 1 or more.
func Owner(port uint16, workers int) int {
	base, count := Slice(0, workers, port < NATBase)
	if int(port) < base || int(port) >= base+workers*count {
		return -1
	}
	return (int(port) - base) / count
}
