// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package steady

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/isthmus-net/isthmus/pkg/wire"
)

// Numbers of segments. Every data segment repeats the first byte after the handshake: a dataplane follows connections and
// judges no windows.
const (
	clientISN = 1000
	serverISN = 2000
	window    = 65535
)

// segment is the packet of a TCP segment, its checksums complete.
func segment(from, to netip.AddrPort, seq, ack uint32, flags uint8, payload int) []byte {
	const headers = wire.IPv4MinLen + wire.TCPMinLen
	b := make([]byte, headers+payload)
	src, dst := from.Addr().As4(), to.Addr().As4()
	wire.IPv4(b).Init(len(b), wire.ProtoTCP, 64, src, dst)
	tcp := wire.TCP(b[wire.IPv4MinLen:])
	tcp.SetHeaderLen(wire.TCPMinLen)
	tcp.SetSrcPort(from.Port())
	tcp.SetDstPort(to.Port())
	tcp.SetSeq(seq)
	tcp.SetAck(ack)
	tcp.SetFlags(flags)
	tcp.SetWindow(window)
	tcp.SetChecksum(wire.Checksum(tcp, wire.PseudoSum4(src, dst, wire.ProtoTCP, uint16(len(tcp)))))
	return b
}

// handshake opens one connection and returns its data segment. The server's end answers whatever SYN it sees: there are no
// others.
func handshake(client, server *socket, from, to netip.AddrPort, payload int) ([]byte, error) {
	const patience, tries = 500 * time.Millisecond, 10
	buf := make([]byte, 1<<16)
	for range tries {
		if err := client.send([][]byte{segment(from, to, clientISN, 0, wire.TCPSyn, 0)}); err != nil {
			return nil, err
		}
		syn, err := await(server, buf, wire.TCPSyn, patience)
		if err != nil {
			return nil, err
		}
		if syn == nil {
			continue // of a device that has just come up, or an endpoint that is not yet there
		}
		answer := segment(syn.to, syn.from, serverISN, syn.seq+1, wire.TCPSyn|wire.TCPAck, 0)
		if err := server.send([][]byte{answer}); err != nil {
			return nil, err
		}
		accepted, err := await(client, buf, wire.TCPSyn|wire.TCPAck, patience)
		if err != nil {
			return nil, err
		}
		if accepted != nil && accepted.to == from {
			return segment(from, to, clientISN+1, accepted.seq+1, wire.TCPAck, payload), nil
		}
	}
	return nil, fmt.Errorf("no connection from %s to %s after %d tries", from, to, tries)
}

// seen is what a received segment says.
type seen struct {
	from, to netip.AddrPort
	seq      uint32
}

// await waits for a segment with exactly these flags.
func await(s *socket, buf []byte, flags uint8, limit time.Duration) (*seen, error) {
	for end := time.Now().Add(limit); time.Now().Before(end); {
		packet, err := s.receive(buf, time.Until(end))
		if err != nil {
			return nil, err
		}
		ip, ok := wire.ParseIPv4(packet)
		if !ok || ip.Protocol() != wire.ProtoTCP {
			continue
		}
		tcp, ok := wire.ParseTCP(packet[ip.HeaderLen():])
		if !ok || tcp.Flags() != flags {
			continue
		}
		return &seen{
			from: netip.AddrPortFrom(netip.AddrFrom4(ip.Src()), tcp.SrcPort()),
			to:   netip.AddrPortFrom(netip.AddrFrom4(ip.Dst()), tcp.DstPort()), seq: tcp.Seq(),
		}, nil
	}
	return nil, nil
}
