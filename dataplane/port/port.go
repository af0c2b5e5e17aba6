// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package port

import (
	"errors"
	"net/netip"
)

// Port is a device packets come from and go to. Above this interface there is only layer 3: a port on a layer 2 device
// strips and adds Ethernet headers and finds next hops itself, so that a Buffer always starts at an IP header.
//
// Queue q of a port belongs to worker q: Receive and Send for one queue are never called concurrently, different queues
// may be. All other methods may be called from any goroutine.
type Port interface {
	// Name is the port's identifier in configuration, metrics and logs.
	Name() string

	// Queues is how many queues the port has, fixed for its life.
	Queues() int

	// Receive fills bufs, in arrival order, with packets that are ready on the queue and returns how many it filled. It
	// never blocks: 0 and a nil error mean that nothing is ready. The caller owns every buffer before, during and after
	// the call; Receive resets the buffers it fills. It may stop short of len(bufs) to keep the bytes of a batch
	// within the processor's cache. The error is ErrClosed when the device is gone; nothing was filled then.
	Receive(queue int, bufs []*Buffer) (int, error)

	// Send transmits bufs in order and returns how many the device took. It never blocks: what the device refuses is
	// dropped and counted in Stats. The buffers are borrowed for the duration of the call only, and their bytes and
	// headroom may be changed by it; the caller owns them again when it returns.
	Send(queue int, bufs []*Buffer) int

	// FD is the descriptor of the queue that a Poller may wait on for readability, or -1 when the port has none.
	FD(queue int) int

	// Stats returns the port's counters since it was opened.
	Stats() Stats

	// Close releases the device. Calls under way return first; later ones find the port closed. Closing twice is safe.
	Close() error
}

// Addresser is a Port that answers address resolution (ARP) for the addresses the dataplane owns on it.
type Addresser interface {
	// SetAddresses replaces the set of addresses the port answers for and announces those that are new to it.
	SetAddresses([]netip.Addr)
}

// ErrClosed is returned by Receive when the port's device is gone, closed by us or removed with its namespace.
var ErrClosed = errors.New("port closed")

// Stats are a port's own counters, which the engine's do not contain: what happened between the device and the Buffer.
type Stats struct {
	// RxPackets and RxBytes count what Receive delivered, a super-packet as one packet; TxPackets and TxBytes what the
	// device took. Bytes are those of layer 3.
	RxPackets, RxBytes, TxPackets, TxBytes uint64
	// RxForeign counts frames for other stations, which a bridge floods to all its ports. Layer 2 only.
	RxForeign uint64
	// TxRefused counts packets that the device refused (queue full, or device gone).
	TxRefused uint64
	// RxInvalid counts frames for us that were no IP packet, or broke the offload header's rules.
	RxInvalid uint64
	// NeighbourDropped counts packets dropped because they had no next hop, it did not resolve or its wait queue was
	// full, and ARP frames that found their queue full. Layer 2 only.
	NeighbourDropped uint64
	// Segmented counts super-packets cut in software because the device cannot take them.
	Segmented uint64
}
