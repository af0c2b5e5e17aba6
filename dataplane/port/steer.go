// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package port

import (
	"encoding/binary"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"

	"github.com/isthmus-net/isthmus/pkg/wire"
)

// Steering says which queue of a device a packet of the kernel goes to. Without it the kernel follows the queue a flow
// was last written on, which it forgets after three idle seconds. Steering only makes strays rare: who owns a packet is
// always computed from the packet.
//
// The zero value steers by flow: see QueueByFlow.
type Steering struct {
	// Ranges of destination ports are cut into one slice a queue, see PortRange.Queue. Other packets go by flow.
	Ranges []PortRange
	// Addresses makes a flow of all packets between two addresses, whatever their ports. Ranges do not count then.
	Addresses bool
}

// PortRange is a range of Count ports from Base on.
type PortRange struct {
	Base  uint16
	Count int
}

// Queue is the queue in whose slice of the range a port is, -1 for a port outside. Slices are equally long; fewer than
// queues ports at the end of the range belong to none.
func (r PortRange) Queue(port uint16, queues int) int {
	size := r.Count / queues
	if at := int(port) - int(r.Base); at >= 0 && at < size*queues {
		return at / size
	}
	return -1
}

// Multipliers of FlowHash: odd, and far from all simple patterns.
const (
	flowMixPorts = 0x85ebca6b
	flowMixAll   = 0x9e3779b1
)

// FlowHash is a cheap hash of a flow's addresses and ports, the same for both directions. It is computed by the kernel
// as well, see Steering, and spreads flows over queues; it is no defence against senders who choose their ports. Ports
// are 0 in fragments and in protocols other than TCP and UDP.
func FlowHash(a, b [4]byte, aPort, bPort uint16) uint32 {
	h := binary.BigEndian.Uint32(a[:]) ^ binary.BigEndian.Uint32(b[:])
	h += uint32(aPort^bPort) * flowMixPorts
	h ^= h >> 16
	h *= flowMixAll
	return h
}

// Fold makes of an IPv6 address what FlowHash takes in its place: the exclusive or of its four words.
func Fold(a [16]byte) (f [4]byte) {
	for i, b := range a {
		f[i%4] ^= b
	}
	return f
}

// QueueByFlow is the queue, from 0 to queues-1, of a flow with this FlowHash.
func QueueByFlow(hash uint32, queues int) int { return int(uint64(hash) * uint64(queues) >> 32) }

// Steer makes the kernel choose queues as s says. It fails where the process may not load programs (CAP_BPF and
// CAP_NET_ADMIN are needed); the port works without, with more strays. With one queue it does nothing.
func (d *device) Steer(s Steering) error {
	if len(d.queues) == 1 {
		return nil
	}
	q := &d.queues[0]
	prog, err := s.load(q.l2, len(d.queues))
	if err != nil {
		return fmt.Errorf("steer port %s: %w", d.name, err)
	}
	defer prog.Close()
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := unix.IoctlSetPointerInt(q.fd, unix.TUNSETSTEERINGEBPF, prog.FD()); err != nil {
		return fmt.Errorf("steer port %s: TUNSETSTEERINGEBPF: %w", d.name, err)
	}
	return nil
}

// load loads the program for frames whose IP header is l2 bytes from their start.
func (s Steering) load(l2, queues int) (*ebpf.Program, error) {
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name:         "isthmus_steer",
		Type:         ebpf.SocketFilter,
		Instructions: s.program(int32(l2), queues),
		License:      "Apache-2.0",
	})
	if err != nil {
		return nil, fmt.Errorf("load program (CAP_BPF is needed): %w", err)
	}
	return prog, nil
}

// program returns the queue of a packet, 0 for what is not IP or ends inside its headers: a load past the end ends the
// program so. The ports behind an IPv6 extension header are not found; such a packet goes by its addresses. Registers: 6
// is the packet, which loads need there; 7 the length of the IP header, 8 the hash, 9 the ports.
func (s Steering) program(l2 int32, queues int) asm.Instructions {
	p := asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.Mov.Imm(asm.R9, 0),
		asm.LoadAbs(l2, asm.Byte), // version and header length
		asm.Mov.Reg(asm.R7, asm.R0),
		asm.RSh.Imm(asm.R0, 4),
		asm.JEq.Imm(asm.R0, 6, "ipv6"),
		asm.JNE.Imm(asm.R0, 4, "zero"),
	}
	if l2 != 0 {
		p = append(asm.Instructions{p[0],
			asm.LoadAbs(l2-2, asm.Half),
			asm.JEq.Imm(asm.R0, wire.EtherTypeIPv4, "ip"),
			asm.JNE.Imm(asm.R0, wire.EtherTypeIPv6, "zero"),
			p[1].WithSymbol("ip"),
		}, p[2:]...)
	}
	p = append(p, s.ipv4(l2)...)
	p = append(p, s.ipv6(l2)...)
	if !s.Addresses { // the kernel refuses a program with code that nothing leads to
		p = append(p,
			asm.LoadInd(asm.R0, asm.R7, l2, asm.Half).WithSymbol("ports"),
			asm.Mov.Reg(asm.R9, asm.R0),
			asm.LoadInd(asm.R0, asm.R7, l2+2, asm.Half),
			asm.Xor.Reg(asm.R9, asm.R0),
		)
		p = append(p, s.slices(queues)...)
	}
	return append(p, mix(queues)...)
}

// ipv4 hashes the addresses of an IPv4 packet and goes on to its ports where there are any that count.
func (s Steering) ipv4(l2 int32) asm.Instructions {
	p := asm.Instructions{
		asm.And.Imm(asm.R7, 0xf),
		asm.LSh.Imm(asm.R7, 2),
		asm.LoadAbs(l2+12, asm.Word), // source
		asm.Mov.Reg(asm.R8, asm.R0),
		asm.LoadAbs(l2+16, asm.Word), // destination
		asm.Xor.Reg(asm.R8, asm.R0),
	}
	if s.Addresses {
		return append(p, asm.Ja.Label("mix"))
	}
	return append(p,
		asm.LoadAbs(l2+6, asm.Half), // fragments
		asm.And.Imm(asm.R0, 0x3fff),
		asm.JNE.Imm(asm.R0, 0, "mix"),
		asm.LoadAbs(l2+9, asm.Byte), // protocol
		asm.JEq.Imm(asm.R0, wire.ProtoTCP, "ports"),
		asm.JEq.Imm(asm.R0, wire.ProtoUDP, "ports"),
		asm.Ja.Label("mix"),
	)
}

// ipv6 is ipv4 for IPv6; it ends where the code for ports begins.
func (s Steering) ipv6(l2 int32) asm.Instructions {
	p := asm.Instructions{asm.Mov.Imm(asm.R8, 0).WithSymbol("ipv6")}
	for off := int32(8); off < ipv6Len; off += 4 {
		p = append(p, asm.LoadAbs(l2+off, asm.Word), asm.Xor.Reg(asm.R8, asm.R0))
	}
	if s.Addresses {
		return append(p, asm.Ja.Label("mix"))
	}
	return append(p,
		asm.Mov.Imm(asm.R7, ipv6Len),
		asm.LoadAbs(l2+6, asm.Byte), // next header
		asm.JEq.Imm(asm.R0, wire.ProtoTCP, "ports"),
		asm.JNE.Imm(asm.R0, wire.ProtoUDP, "mix"),
	)
}

// slices returns the queue for a destination port, in register 0, that lies in one of the ranges.
func (s Steering) slices(queues int) (p asm.Instructions) {
	for i, r := range s.Ranges {
		size := r.Count / queues
		if size == 0 {
			continue
		}
		next := fmt.Sprintf("range%d", i)
		p = append(p,
			asm.Mov.Reg(asm.R1, asm.R0),
			asm.Sub.Imm(asm.R1, int32(r.Base)), // below the range it is huge, taken as unsigned
			asm.JGE.Imm(asm.R1, int32(size*queues), next),
			asm.Div.Imm(asm.R1, int32(size)),
			asm.Mov.Reg(asm.R0, asm.R1),
			asm.Return(),
			asm.Mov.Reg(asm.R0, asm.R0).WithSymbol(next),
		)
	}
	return p
}

// mix returns QueueByFlow of the FlowHash of addresses and ports.
func mix(queues int) asm.Instructions {
	ports, all := uint32(flowMixPorts), uint32(flowMixAll)
	return asm.Instructions{
		asm.Mul.Imm32(asm.R9, int32(ports)).WithSymbol("mix"),
		asm.Add.Reg32(asm.R8, asm.R9),
		asm.Mov.Reg32(asm.R1, asm.R8),
		asm.RSh.Imm32(asm.R1, 16),
		asm.Xor.Reg32(asm.R8, asm.R1),
		asm.Mul.Imm32(asm.R8, int32(all)),
		asm.Mul.Imm(asm.R8, int32(queues)),
		asm.RSh.Imm(asm.R8, 32),
		asm.Mov.Reg(asm.R0, asm.R8),
		asm.Return(),
		asm.Mov.Imm(asm.R0, 0).WithSymbol("zero"),
		asm.Return(),
	}
}
