// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package port

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/isthmus-net/isthmus/pkg/wire"
)

// Capabilities is what the kernel was found to do right with packets that carry an offload header.
type Capabilities struct {
	VNetHdr bool // plain packets, and partial checksums
	TSO     bool // TCP super-packets
	USO     bool // UDP super-packets
	// Reasons has a sentence for everything that was found wrong, or could not be tried out and is taken to work.
	Reasons []string
}

// Times of the self-test. It usually takes a few milliseconds; all limits together keep it from hanging.
const (
	probeLimit     = 2 * time.Second
	probeReadLimit = 100 // milliseconds
)

// Probe tries the kernel's offloads out, once for the process. It makes a namespace of its own for that, with two
// TUN devices, sends packets of each kind into one and compares what it forwards to the other, byte by byte, with
// what this package's Segmenter makes of them. Kernels are known that refuse a super-packet whose last segment is
// short (6.6.44 and some of 6.10), and ones that damage segments of UDP: on these, throughput would be next to nothing
// without the test.
//
// Where a namespace cannot be made, all is taken to work: a port that meets a refused super-packet still cuts it.
var Probe = sync.OnceValue(probe)

// probe is Probe, uncached.
func probe() *Capabilities {
	result := make(chan *Capabilities, 1)
	go onThrowawayThread(func() { result <- probeHere() })
	select {
	case c := <-result:
		return c
	case <-time.After(probeLimit):
		return untested(errors.New("the self-test took too long"))
	}
}

// onThrowawayThread runs f on a thread that ends afterwards. That is never the main thread, which the runtime cannot
// end, and whose namespace the process would be seen in.
func onThrowawayThread(f func()) {
	runtime.LockOSThread() // not unlocked: the thread ends with the goroutine
	if unix.Gettid() != unix.Getpid() {
		f()
		return
	}
	defer runtime.UnlockOSThread()
	done := make(chan struct{})
	go func() { // on another thread, since this one is held
		defer close(done)
		onThrowawayThread(f)
	}()
	<-done
}

func untested(err error) *Capabilities {
	return &Capabilities{VNetHdr: true, TSO: true, USO: true,
		Reasons: []string{fmt.Sprintf("offloads: not tried out, taken to work (%v)", err)}}
}

// probeHere leaves the calling thread in a new namespace.
func probeHere() *Capabilities {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return untested(fmt.Errorf("make a network namespace: %w", err))
	}
	var r rig
	defer r.close()
	if err := r.open(); err != nil {
		return untested(err)
	}
	c := &Capabilities{}
	try := func(ok *bool, what string, err error) bool {
		*ok = err == nil
		if err != nil {
			c.Reasons = append(c.Reasons, fmt.Sprintf("%s: the self-test failed: %v", what, err))
		}
		return *ok
	}
	if !try(&c.VNetHdr, "offload header", r.tryPlain()) {
		return c
	}
	try(&c.TSO, "TCP super-packets", r.trySuper(GSOTCPv4))
	try(&c.USO, "UDP super-packets", r.trySuper(GSOUDP))
	return c
}

// rig is a pair of TUN devices between which the kernel forwards.
type rig struct {
	in, out queue
}

// Addresses of the rig: each device has the first of its network, and the packets go from and to the second.
var (
	rigInAddr, rigOutAddr = [4]byte{198, 18, 0, 1}, [4]byte{198, 18, 1, 1}
	rigSource, rigTarget  = [4]byte{198, 18, 0, 2}, [4]byte{198, 18, 1, 2}
)

func (r *rig) open() error {
	r.in.fd, r.out.fd = -1, -1
	// Without it the devices talk of IPv6 when they come up; with it out of reach, what they say is skipped.
	_ = os.WriteFile("/proc/sys/net/ipv6/conf/default/disable_ipv6", []byte("1"), 0)
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0); err != nil {
		return fmt.Errorf("switch forwarding on: %w", err)
	}
	for _, end := range []struct {
		q    *queue
		name string
		addr [4]byte
	}{{&r.in, "probe0", rigInAddr}, {&r.out, "probe1", rigOutAddr}} {
		fd, err := openQueue(end.name, unix.IFF_TUN|unix.IFF_NO_PI|unix.IFF_VNET_HDR, true)
		if err != nil {
			return err
		}
		end.q.sender = sender{fd: fd, vnet: vnetHdrLen, csum: true, tso: true, uso: true}
		if err := configure(end.name, end.addr); err != nil {
			return err
		}
	}
	return nil
}

// configure gives a device an address and brings it up.
func configure(name string, addr [4]byte) error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("configure %s: %w", name, err)
	}
	defer unix.Close(s)
	for _, step := range []struct {
		request uint
		set     func(*unix.Ifreq) error
	}{
		{unix.SIOCSIFADDR, func(i *unix.Ifreq) error { return i.SetInet4Addr(addr[:]) }},
		{unix.SIOCSIFNETMASK, func(i *unix.Ifreq) error { return i.SetInet4Addr([]byte{255, 255, 255, 0}) }},
		{unix.SIOCSIFFLAGS, func(i *unix.Ifreq) error { i.SetUint16(unix.IFF_UP); return nil }},
	} {
		ifr, err := unix.NewIfreq(name)
		if err == nil {
			err = step.set(ifr)
		}
		if err == nil {
			err = unix.IoctlIfreq(s, step.request, ifr)
		}
		if err != nil {
			return fmt.Errorf("configure %s: %w", name, err)
		}
	}
	return nil
}

func (r *rig) close() {
	r.in.close()
	r.out.close()
}

// tryPlain sends a packet with a partial checksum to a device that takes complete ones only.
func (r *rig) tryPlain() error {
	if err := unix.IoctlSetInt(r.out.fd, unix.TUNSETOFFLOAD, 0); err != nil {
		return fmt.Errorf("TUNSETOFFLOAD: %w", err)
	}
	return r.compareSegments(probePacket(GSONone, 0, 64))
}

// trySuper sends a super-packet with a short last segment, first to a device that does not take super-packets, then
// to one that does.
func (r *rig) trySuper(gsoType uint8) error {
	const size, payload = 500, 3*500 + 37
	offload := unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6 | unix.TUN_F_TSO_ECN
	if gsoType == GSOUDP {
		offload |= unix.TUN_F_USO4 | unix.TUN_F_USO6
	}
	if err := unix.IoctlSetInt(r.out.fd, unix.TUNSETOFFLOAD, 0); err != nil {
		return fmt.Errorf("TUNSETOFFLOAD: %w", err)
	}
	super := probePacket(gsoType, size, payload)
	if err := r.compareSegments(super); err != nil {
		return fmt.Errorf("written, and cut by the kernel: %w", err)
	}
	if err := unix.IoctlSetInt(r.out.fd, unix.TUNSETOFFLOAD, offload); err != nil {
		return fmt.Errorf("TUNSETOFFLOAD: %w", err)
	}
	if errno := r.in.write(super); errno != 0 {
		return fmt.Errorf("write: %w", errno)
	}
	got, err := r.read()
	if err != nil {
		return fmt.Errorf("read uncut: %w", err)
	}
	forwarded(super)
	if !bytes.Equal(got.Bytes(), super.Bytes()) || got.Offload != super.Offload {
		return fmt.Errorf("what was read uncut is not what was sent: %+v of %+v", got.Offload, super.Offload)
	}
	return nil
}

// compareSegments sends b and compares what arrives with its segments.
func (r *rig) compareSegments(b *Buffer) error {
	if errno := r.in.write(b); errno != 0 {
		return fmt.Errorf("write: %w", errno)
	}
	forwarded(b)
	var seg Segmenter
	want := NewBuffer()
	seg.Start(b)
	for i := 0; seg.Next(want); i++ {
		got, err := r.read()
		if err != nil {
			return fmt.Errorf("segment %d: %w", i, err)
		}
		if !bytes.Equal(got.Bytes(), want.Bytes()) || got.Offload != (Offload{}) {
			return fmt.Errorf("segment %d: got %x, want %x", i, got.Bytes(), want.Bytes())
		}
	}
	return nil
}

// read waits for the next IPv4 packet that is forwarded.
func (r *rig) read() (*Buffer, error) {
	b := NewBuffer()
	for deadline := time.Now().Add(probeReadLimit * time.Millisecond); time.Now().Before(deadline); {
		switch errno := r.out.read(b); errno {
		case 0:
			if r.out.classify(b) == frameOurs && b.Bytes()[0]>>4 == 4 {
				b.Flags &^= DataValid
				return b, nil
			}
		case unix.EAGAIN, unix.EINTR:
			fds := []unix.PollFd{{Fd: int32(r.out.fd), Events: unix.POLLIN}}
			if _, err := unix.Poll(fds, probeReadLimit); err != nil && err != unix.EINTR {
				return nil, fmt.Errorf("poll: %w", err)
			}
		default:
			return nil, fmt.Errorf("read: %w", errno)
		}
	}
	return nil, errors.New("it did not arrive")
}

// forwarded does to b what a router does.
func forwarded(b *Buffer) {
	ip := wire.IPv4(b.Bytes())
	const ttl = 8
	ip[ttl]--
	ip.SetChecksum(ip.CalcChecksum())
}

// probePacket makes a packet with a partial checksum: TCP, or UDP if gsoType says so.
func probePacket(gsoType uint8, gsoSize, payload int) *Buffer {
	hdrLen, proto, csumOffset := wire.IPv4MinLen+wire.TCPMinLen, uint8(wire.ProtoTCP), tcpCsumOffset
	if gsoType == GSOUDP {
		hdrLen, proto, csumOffset = wire.IPv4MinLen+wire.UDPLen, wire.ProtoUDP, udpCsumOffset
	}
	b := NewBuffer()
	p := b.SetLen(hdrLen + payload)
	wire.IPv4(p).Init(len(p), proto, 64, rigSource, rigTarget)
	for i := range p[hdrLen:] {
		p[hdrLen+i] = byte(i * 7)
	}
	l4 := p[wire.IPv4MinLen:]
	if proto == wire.ProtoUDP {
		wire.UDP(l4).SetLength(uint16(len(l4)))
	} else {
		wire.TCP(l4).SetHeaderLen(wire.TCPMinLen)
		wire.TCP(l4).SetFlags(wire.TCPAck | wire.TCPPsh)
		wire.TCP(l4).SetWindow(1000)
	}
	wire.UDP(l4).SetSrcPort(1000)
	wire.UDP(l4).SetDstPort(2000)
	sum := wire.Fold(wire.PseudoSum4(rigSource, rigTarget, proto, uint16(len(l4))))
	l4[csumOffset], l4[csumOffset+1] = byte(sum>>8), byte(sum)
	b.Offload = Offload{Flags: NeedsCsum, CsumStart: wire.IPv4MinLen, CsumOffset: uint16(csumOffset)}
	if gsoSize > 0 {
		b.GSOType, b.GSOSize, b.HdrLen = gsoType, uint16(gsoSize), uint16(hdrLen)
	}
	return b
}
