// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/isthmus-net/isthmus/pkg/netns"
	"github.com/isthmus-net/isthmus/pkg/wire"
)

// This load is packets of one flow that the client puts on the router's link hop itself, without the kernel's layers above,
// so that making them is cheap. The server reports what it has received past all that is measured, and the client never has
// more packets on the way than the shortest queue there holds: what comes through is what there is time for, and none is
// lost.

const (
	packetSize = 64 // bytes from the IP header on
	// packetWindow is how many packets may be on their way.
	packetWindow = 3 * netns.PortTxQueueLen / 4
	packetBatch  = 64 // packets of one system call
	// reportEvery is how many packets a report covers at least. It is less than the window, so that none waits for it.
	reportEvery = packetBatch
	reportPort  = 8999 // of the client, in the router
	// lossLimit is how long nothing may come back.
	lossLimit = time.Second

	receiveBatch = 16
	socketRoom   = 4 << 20 // bytes that may wait in a socket
)

// mmsghdr is struct mmsghdr of recvmmsg(2) and sendmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32
}

// smallPacket is the load's one packet, its checksums complete.
func smallPacket(s *loadSpec) []byte {
	const sourcePort = 40000
	p := make([]byte, packetSize)
	src, dst := s.Sources[0].As4(), s.Service.Addr().As4()
	wire.IPv4(p).Init(packetSize, wire.ProtoUDP, 64, src, dst)
	udp := wire.UDP(p[wire.IPv4MinLen:])
	wire.PutUDP(udp, sourcePort, s.Service.Port(), len(udp))
	udp.SetChecksum(wire.Checksum(udp, wire.PseudoSum4(src, dst, wire.ProtoUDP, uint16(len(udp)))))
	return p
}

// packetClient sends until something fails.
func packetClient(s *loadSpec, t *tally) error {
	reports, err := udpSocket(reportPort)
	if err != nil {
		return err
	}
	defer unix.Close(reports)
	tx, err := newInjector(smallPacket(s))
	if err != nil {
		return err
	}
	defer tx.close()
	sent, received, err := probe(tx, reports)
	if err != nil {
		return err
	}
	t.success()
	for {
		room := packetWindow - (sent - received)
		if room == 0 {
			if received, err = newestReport(reports, lossLimit); err != nil {
				return fmt.Errorf("wait for packets to come through: %w", err)
			}
			continue
		}
		n, err := tx.send(int(min(room, packetBatch)))
		if err != nil {
			return err
		}
		sent += uint64(n)
		t.count.Add(uint64(n))
	}
}

// probe sends single packets until one comes through: neighbours have to be found first, on links that have just come up. It
// returns how many it has sent and how many of them were reported; others may still be on their way, or lost.
func probe(tx *injector, reports int) (sent, received uint64, err error) {
	const patience = 100 * time.Millisecond
	for range dialLimit / patience {
		n, err := tx.send(1)
		if err != nil {
			return 0, 0, err
		}
		sent += uint64(n)
		received, err = newestReport(reports, patience)
		if !errors.Is(err, unix.EAGAIN) {
			return sent, received, err
		}
	}
	return 0, 0, fmt.Errorf("none of %d packets came through", sent)
}

// newestReport waits for a report, and returns the newest there is.
func newestReport(fd int, patience time.Duration) (received uint64, err error) {
	limit := unix.NsecToTimeval(patience.Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit); err != nil {
		return 0, os.NewSyscallError("setsockopt", err)
	}
	var report [8]byte
	for flags := 0; ; {
		n, _, err := unix.Recvfrom(fd, report[:], flags)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN) && flags != 0:
			return received, nil
		case err != nil:
			return 0, os.NewSyscallError("recvfrom", err)
		case n == len(report):
			received, flags = binary.NativeEndian.Uint64(report[:]), unix.MSG_DONTWAIT
		}
	}
}

// injector puts copies of a packet on the link hop.
type injector struct {
	fd   int
	to   unix.RawSockaddrLinklayer
	iov  unix.Iovec
	hdrs [packetBatch]mmsghdr
}

func newInjector(packet []byte) (*injector, error) {
	link, err := net.InterfaceByName(hop)
	if err != nil {
		return nil, fmt.Errorf("look up link %s: %w", hop, err)
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0) // 0: it receives nothing
	if err != nil {
		return nil, fmt.Errorf("open packet socket: %w", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("send past queueing disciplines: %w", err)
	}
	i := &injector{fd: fd}
	i.to = unix.RawSockaddrLinklayer{Family: unix.AF_PACKET, Ifindex: int32(link.Index), Halen: uint8(len(hopMAC))}
	copy(i.to.Addr[:], hopMAC) // a TUN device takes no notice
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&i.to.Protocol))[:], unix.ETH_P_IP)
	i.iov.Base = &packet[0]
	i.iov.SetLen(len(packet))
	for n := range i.hdrs {
		h := &i.hdrs[n].hdr
		h.Name, h.Namelen = (*byte)(unsafe.Pointer(&i.to)), unix.SizeofSockaddrLinklayer
		h.Iov = &i.iov
		h.SetIovlen(1)
	}
	return i, nil
}

// send sends n packets, at most packetBatch, and returns how many the link took. It does not block, so the runtime need not
// hear of it.
func (i *injector) send(n int) (int, error) {
	sent, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(i.fd), uintptr(unsafe.Pointer(&i.hdrs)), uintptr(n), 0, 0, 0)
	if errno == unix.EINTR {
		return 0, nil
	}
	if errno != 0 {
		return 0, os.NewSyscallError("sendmmsg", errno)
	}
	return int(sent), nil
}

func (i *injector) close() { unix.Close(i.fd) }

// packetServer counts what it receives, on a goroutine of its own, and reports it.
func packetServer(s *loadSpec, t *tally) error {
	fd, err := udpSocket(int(s.Service.Port()))
	if err != nil {
		return err
	}
	// Without it the kernel would cut super-packets before they are counted.
	if err := unix.SetsockoptInt(fd, unix.SOL_UDP, unix.UDP_GRO, 1); err != nil {
		unix.Close(fd)
		return fmt.Errorf("receive super-packets: %w", err)
	}
	rx := newCounter(fd)
	to := &unix.SockaddrInet4{Port: reportPort, Addr: routerOut.Addr().As4()}
	go func() {
		var report [8]byte
		for reported := uint64(0); ; {
			packets, bytes, err := rx.receive()
			if err != nil {
				t.fail(err)
				return
			}
			total := t.count.Add(packets)
			t.bytes.Add(bytes)
			if reported > 0 && total-reported < reportEvery {
				continue
			}
			reported = total
			binary.NativeEndian.PutUint64(report[:], total)
			if err := unix.Sendto(fd, report[:], 0, to); err != nil {
				t.fail(err)
				return
			}
		}
	}()
	return nil
}

// udpSocket opens a socket on a port of all addresses.
func udpSocket(port int) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open UDP port %d: %w", port, err)
	}
	err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, socketRoom)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrInet4{Port: port})
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("open UDP port %d: %w", port, err)
	}
	return fd, nil
}

// counter counts the packets that a socket receives.
type counter struct {
	fd       int
	hdrs     [receiveBatch]mmsghdr
	iovs     [receiveBatch]unix.Iovec
	controls [receiveBatch][3]uint64 // room for UDP_GRO's
}

func newCounter(fd int) *counter {
	c := &counter{fd: fd}
	for i := range c.hdrs {
		buffer := make([]byte, 1<<16)
		c.iovs[i].Base = &buffer[0]
		c.iovs[i].SetLen(len(buffer))
		h := &c.hdrs[i].hdr
		h.Iov = &c.iovs[i]
		h.SetIovlen(1)
		h.Control = (*byte)(unsafe.Pointer(&c.controls[i]))
	}
	return c
}

// receive waits for packets and counts those that are there, and their bytes, headers included.
func (c *counter) receive() (packets, bytes uint64, err error) {
	for i := range c.hdrs {
		c.hdrs[i].hdr.SetControllen(int(unsafe.Sizeof(c.controls[i])))
	}
	n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(c.fd), uintptr(unsafe.Pointer(&c.hdrs)), receiveBatch,
		unix.MSG_WAITFORONE, 0, 0)
	if errno == unix.EINTR {
		return 0, 0, nil
	}
	if errno != 0 {
		return 0, 0, os.NewSyscallError("recvmmsg", errno)
	}
	for i := range c.hdrs[:n] {
		count := c.segments(i)
		packets += count
		bytes += uint64(c.hdrs[i].n) + count*(wire.IPv4MinLen+wire.UDPLen)
	}
	return packets, bytes, nil
}

// segments is how many packets a message stands for.
func (c *counter) segments(i int) uint64 {
	h := &c.hdrs[i].hdr
	if int(h.Controllen) >= unix.CmsgLen(4) {
		head := (*unix.Cmsghdr)(unsafe.Pointer(h.Control))
		size := *(*int32)(unsafe.Add(unsafe.Pointer(h.Control), unix.CmsgLen(0)))
		if head.Level == unix.SOL_UDP && head.Type == unix.UDP_GRO && size > 0 {
			return (uint64(c.hdrs[i].n) + uint64(size) - 1) / uint64(size)
		}
	}
	return 1
}
