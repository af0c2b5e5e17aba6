// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package port

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/isthmus-net/isthmus/pkg/netns/netnstest"
)

// twin is what the program should return, from the packet's bytes.
func (s Steering) twin(p []byte, queues int) int {
	var src, dst [4]byte
	var l4 int
	var proto byte
	switch {
	case len(p) >= 20 && p[0]>>4 == 4:
		src, dst, l4 = [4]byte(p[12:]), [4]byte(p[16:]), int(p[0]&15)*4
		if binary.BigEndian.Uint16(p[6:])&0x3fff == 0 {
			proto = p[9]
		}
	case len(p) >= 40 && p[0]>>4 == 6:
		src, dst, l4, proto = Fold([16]byte(p[8:])), Fold([16]byte(p[24:])), 40, p[6]
	default:
		return 0
	}
	if s.Addresses || proto != 6 && proto != 17 {
		return QueueByFlow(FlowHash(src, dst, 0, 0), queues)
	}
	if len(p) < l4+4 {
		return 0
	}
	from, to := binary.BigEndian.Uint16(p[l4:]), binary.BigEndian.Uint16(p[l4+2:])
	for _, r := range s.Ranges {
		if r.Count < queues {
			continue
		}
		if q := r.Queue(to, queues); q >= 0 {
			return q
		}
	}
	return QueueByFlow(FlowHash(src, dst, from, to), queues)
}

// TestSteeringProgram runs the program in the kernel on random packets and compares it with its twin.
func TestSteeringProgram(t *testing.T) {
	netnstest.RequirePrivileged(t)
	r := rand.New(rand.NewPCG(5, 5))
	for _, s := range []Steering{{}, {Addresses: true}, {Ranges: []PortRange{{10240, 55000}}},
		{Ranges: []PortRange{{10240, 50001}, {1024, 1000}, {7, 1}}}} {
		for _, queues := range []int{1, 2, 3, 8} {
			for _, l2 := range []int{0, 14} {
				prog, err := s.load(l2, queues)
				if err != nil {
					t.Fatal(err)
				}
				defer prog.Close()
				seen := map[int]int{}
				for range 300 {
					p := steered(r)
					// The test run strips an Ethernet header of its own before it calls a socket filter.
					frame := append(make([]byte, 14+l2), p...)
					frame[12] = 8
					if l2 != 0 {
						binary.BigEndian.PutUint16(frame[14+12:], 0x0800)
						if p[0]>>4 == 6 {
							binary.BigEndian.PutUint16(frame[14+12:], 0x86dd)
						}
					}
					ret, err := prog.Run(&ebpf.RunOptions{Data: frame})
					if err != nil {
						t.Fatal(err)
					}
					if want := s.twin(p, queues); int(ret) != want {
						t.Fatalf("%+v, %d queues, l2 %d: queue %d, want %d for %x", s, queues, l2, ret, want, p)
					}
					seen[int(ret)]++
				}
				if len(seen) != queues {
					t.Errorf("%+v: %d queues, of which %v are used", s, queues, seen)
				}
			}
		}
	}
}

// steered is a random packet, in most cases TCP.
func steered(r *rand.Rand) []byte {
	p := make([]byte, 20+4*r.IntN(11)+r.IntN(30)) // an IPv6 header may end short
	for i := range p {
		p[i] = byte(r.Uint32())
	}
	ihl := 5
	if len(p) > 40 {
		ihl += r.IntN(6)
	}
	p[0] = 0x40 | byte(ihl)
	p[6], p[7] = 0x40, 0
	p[9] = []byte{6, 6, 6, 17, 1}[r.IntN(5)]
	switch r.IntN(10) {
	case 0, 2, 3:
		p[0], p[6] = 0x60|byte(r.IntN(16)), []byte{6, 17, 58, 44}[r.IntN(4)]
	case 1:
		p[6], p[7] = byte(r.IntN(64)), byte(r.Uint32())
	}
	return p
}

func TestFlowHashIsSymmetricAndSpreads(t *testing.T) {
	counts := make([]int, 8)
	const flows = 80000
	for i := range flows {
		var a, b [4]byte
		binary.BigEndian.PutUint32(a[:], 0x0a000000+uint32(i/1000))
		binary.BigEndian.PutUint32(b[:], 0x0a000100)
		src := uint16(32768 + i%1000*2) // as Linux chooses ports for connect
		h := FlowHash(a, b, src, 443)
		if h != FlowHash(b, a, 443, src) {
			t.Fatal("not symmetric")
		}
		counts[QueueByFlow(h, len(counts))]++
	}
	for q, n := range counts {
		if n < flows/8*8/10 || n > flows/8*12/10 {
			t.Errorf("queue %d of 8 has %d of %d flows", q, n, flows)
		}
	}
}

func TestPortRange(t *testing.T) {
	r := PortRange{Base: 100, Count: 10}
	for _, c := range []struct {
		port   uint16
		queues int
		want   int
	}{{99, 3, -1}, {100, 3, 0}, {102, 3, 0}, {103, 3, 1}, {108, 3, 2}, {109, 3, -1}, {109, 1, 0}, {110, 1, -1}, {105, 20, -1}} {
		if got := r.Queue(c.port, c.queues); got != c.want {
			t.Errorf("port %d of %d queues: %d, want %d", c.port, c.queues, got, c.want)
		}
	}
}

// TestSteer sends flows through a device and looks which queue they arrive on.
func TestSteer(t *testing.T) {
	for _, s := range []Steering{{}, {Ranges: []PortRange{{1000, 100}}}} {
		n := newNamespace(t)
		p := openTUN(n, Config{Name: "p", Device: "tun0", Queues: 3}, "10.0.0.1/24")
		q := openTAP(n, Config{Name: "q", Device: "tap0", Queues: 3}, "10.0.1.1/24")
		for _, d := range []interface{ Steer(Steering) error }{p, q} {
			if err := d.Steer(s); err != nil {
				t.Fatal(err)
			}
		}
		n.do(func() error {
			for port := range 200 {
				c, err := net.DialUDP("udp4", nil, &net.UDPAddr{IP: net.IPv4(10, 0, 0, 2), Port: 950 + port})
				if err != nil {
					return err
				}
				if _, err := c.Write(bytes.Repeat([]byte{1}, 30)); err != nil {
					return fmt.Errorf("packet %d: %w", port, err)
				}
				c.Close()
			}
			return nil
		})
		total := 0
		for queue := range 3 {
			for bufs := newBuffers(200); ; {
				k, err := p.Receive(queue, bufs)
				if err != nil {
					t.Fatal(err)
				}
				if k == 0 {
					break
				}
				for _, b := range bufs[:k] {
					if want := s.twin(b.Bytes(), 3); want != queue {
						t.Errorf("%+v: packet of queue %d on queue %d", s, want, queue)
					}
				}
				total += k
			}
		}
		if total != 200 {
			t.Errorf("%d packets of 200", total)
		}
		p.Close()
		if err := p.Steer(s); err == nil {
			t.Error("a closed port is steered")
		}
	}
}

func TestSteerOneQueue(t *testing.T) {
	n := newNamespace(t)
	p := openTUN(n, Config{Name: "p", Device: "tun0"}, "10.0.0.1/24")
	if err := p.Steer(Steering{}); err != nil {
		t.Error(err)
	}
}

func TestPinThread(t *testing.T) {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine
		for n := range 5 {
			var before, after unix.CPUSet
			_ = unix.SchedGetaffinity(0, &before)
			if err := PinThread(n); err != nil {
				done <- err
				return
			}
			_ = unix.SchedGetaffinity(0, &after)
			if after.Count() != 1 {
				done <- fmt.Errorf("pinned to %d processors", after.Count())
				return
			}
			_ = unix.SchedSetaffinity(0, &before)
		}
		if PinThread(-1) == nil {
			done <- fmt.Errorf("pinned to a processor below the first")
			return
		}
		done <- nil
	}()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
