// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/isthmus-net/isthmus/pkg/netns"
	"github.com/isthmus-net/isthmus/pkg/wire"
)

// rawSocket sends and receives the packets of one protocol at the address of an instance. It hears what the kernel
// hears; what it sends begins at the IP header if hdrincl is on.
type rawSocket struct {
	*net.IPConn
	local netip.Addr
}

// raw opens a raw socket of an instance for "icmp", "tcp" or "udp".
func (b *Bed) raw(instance, protocol string) (*rawSocket, error) {
	local := b.address(instance)
	conn, err := netns.ListenPacket(b.spaces[instance], "ip4:"+protocol, local.String())
	if err != nil {
		return nil, fmt.Errorf("raw socket of %s: %w", instance, err)
	}
	return &rawSocket{conn.(*net.IPConn), local}, nil
}

// next waits for a message that is wanted; messages begin behind the IP header.
func (r *rawSocket) next(wanted func(message []byte, from netip.Addr) bool, until time.Time) (bool, error) {
	if err := r.SetReadDeadline(until); err != nil {
		return false, err
	}
	buf := make([]byte, 1<<16)
	for {
		n, from, err := r.ReadFromIP(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		address, _ := netip.AddrFromSlice(from.IP.To4())
		if wanted(buf[:n], address) {
			return true, nil
		}
	}
}

// ping sends an echo request.
func (r *rawSocket) ping(to netip.Addr, id uint16) error {
	message := make([]byte, wire.ICMPLen+32)
	message[0] = wire.ICMPEchoRequest
	binary.BigEndian.PutUint16(message[4:], id)
	wire.ICMP(message).SetChecksum(wire.Checksum(message, 0))
	_, err := r.WriteToIP(message, &net.IPAddr{IP: to.AsSlice()})
	return err
}

// isReply says whether a message answers a ping.
func isReply(message []byte, id uint16) bool {
	return len(message) >= wire.ICMPLen && wire.ICMP(message).Type() == wire.ICMPEchoReply &&
		binary.BigEndian.Uint16(message[4:]) == id
}

// isReset says whether a message is a TCP segment with RST to a port.
func isReset(message []byte, port uint16) bool {
	t, ok := wire.ParseTCP(message)
	return ok && t.DstPort() == port && t.Flags()&wire.TCPRst != 0
}

// end is one end of a TCP connection: what a segment of it needs.
type end struct {
	local, remote netip.AddrPort
	next, ack     uint32 // of the next byte to send, of the next byte to receive
}

// endOf reads the numbers of a quiet connection from its socket.
func endOf(c *net.TCPConn) (e end, err error) {
	e.local, e.remote = addrPort(c.LocalAddr()), addrPort(c.RemoteAddr())
	err = inRepair(c, func(fd int) error {
		for _, q := range []struct {
			number int
			value  *uint32
		}{{sendQueue, &e.next}, {receiveQueue, &e.ack}} {
			if err := unix.SetsockoptInt(fd, unix.SOL_TCP, unix.TCP_REPAIR_QUEUE, q.number); err != nil {
				return os.NewSyscallError("TCP_REPAIR_QUEUE", err)
			}
			value, err := unix.GetsockoptInt(fd, unix.SOL_TCP, unix.TCP_QUEUE_SEQ)
			if err != nil {
				return os.NewSyscallError("TCP_QUEUE_SEQ", err)
			}
			*q.value = uint32(value)
		}
		return unix.SetsockoptInt(fd, unix.SOL_TCP, unix.TCP_REPAIR_QUEUE, noQueue)
	})
	return e, err
}

// Queues of a socket in repair mode (include/uapi/linux/tcp.h).
const (
	noQueue = iota
	receiveQueue
	sendQueue
)

// offeredMSS is the MSS option that a socket received from the other side. TCP_MAXSEG says what is left of it after
// timestamps, except in repair mode.
func offeredMSS(c *net.TCPConn) (mss int, err error) {
	err = inRepair(c, func(fd int) (err error) {
		mss, err = unix.GetsockoptInt(fd, unix.SOL_TCP, unix.TCP_MAXSEG)
		return os.NewSyscallError("TCP_MAXSEG", err)
	})
	return mss, err
}

// ownMSS is the MSS that a socket itself has offered, less the room it needs for timestamps.
func ownMSS(c *net.TCPConn) (mss int, err error) {
	err = withSocket(c, func(fd int) error {
		info, err := unix.GetsockoptTCPInfo(fd, unix.SOL_TCP, unix.TCP_INFO)
		if err == nil {
			mss = int(info.Advmss)
		}
		return os.NewSyscallError("TCP_INFO", err)
	})
	return mss, err
}

// inRepair calls f with a socket in repair mode, in which the kernel tells what it keeps to itself otherwise.
func inRepair(c *net.TCPConn, f func(fd int) error) error {
	return withSocket(c, func(fd int) error {
		if err := unix.SetsockoptInt(fd, unix.SOL_TCP, unix.TCP_REPAIR, unix.TCP_REPAIR_ON); err != nil {
			return os.NewSyscallError("TCP_REPAIR", err)
		}
		err := f(fd)
		off := unix.SetsockoptInt(fd, unix.SOL_TCP, unix.TCP_REPAIR, unix.TCP_REPAIR_OFF_NO_WP)
		return errors.Join(err, os.NewSyscallError("TCP_REPAIR", off))
	})
}

func withSocket(c *net.TCPConn, f func(fd int) error) error {
	socket, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := socket.Control(func(fd uintptr) { failed = f(int(fd)) }); err != nil {
		return err
	}
	return failed
}

// segment builds an IPv4 packet of total bytes: the next segment of a connection, as if the sender knew no MSS.
func (e *end) segment(total int, dontFragment bool) []byte {
	b := make([]byte, total)
	ip, src, dst := wire.IPv4(b), e.local.Addr().As4(), e.remote.Addr().As4()
	ip.Init(total, wire.ProtoTCP, 64, src, dst)
	if !dontFragment {
		binary.BigEndian.PutUint16(b[6:], 0) // the kernel renews the checksum
	}
	tcp := wire.TCP(b[wire.IPv4MinLen:])
	tcp.SetSrcPort(e.local.Port())
	tcp.SetDstPort(e.remote.Port())
	tcp.SetSeq(e.next)
	tcp.SetAck(e.ack)
	tcp.SetHeaderLen(wire.TCPMinLen)
	tcp.SetFlags(wire.TCPAck | wire.TCPPsh)
	tcp.SetWindow(500)
	payload := tcp[wire.TCPMinLen:]
	for i := range payload {
		payload[i] = 'a' + byte(i%26)
	}
	tcp.SetChecksum(wire.Checksum(tcp, wire.PseudoSum4(src, dst, wire.ProtoTCP, uint16(len(tcp)))))
	return b
}

// inject sends a packet that has an IP header.
func (r *rawSocket) inject(packet []byte, to netip.Addr) error {
	socket, err := r.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = socket.Control(func(fd uintptr) {
		if failed = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_HDRINCL, 1); failed == nil {
			failed = unix.Sendto(int(fd), packet, 0, &unix.SockaddrInet4{Addr: to.As4()})
		}
	})
	return errors.Join(err, os.NewSyscallError("send", failed))
}
