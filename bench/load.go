// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Kinds of load.
const (
	kindBulk    = "bulk"    // the client writes as fast as it can, the server reads and discards
	kindHTTP    = "http"    // requests one after the other on connections that stay
	kindConnect = "connect" // connections that the server closes at once
	kindPackets = "packets" // small UDP packets, as many as get through
)

// loadSpec tells client and server the same.
type loadSpec struct {
	Kind string
	// Service is the first address and port the client dials; Ports is how many consecutive ports there are.
	Service netip.AddrPort
	Ports   int
	// Sources are the client's own addresses, used in turn.
	Sources []netip.Addr
	// Parallel is how many connections the client has at a time.
	Parallel int
	// Header says that each connection must begin with a PROXY protocol v2 header, which the server checks.
	Header bool
}

// source returns the client's address and the service's address and port of the nth connection: every port in turn,
// then the same from the next address.
func (s *loadSpec) source(n uint64) (netip.Addr, netip.AddrPort) {
	ports := uint64(s.Ports)
	from := s.Sources[n/ports%uint64(len(s.Sources))]
	return from, netip.AddrPortFrom(s.Service.Addr(), s.Service.Port()+uint16(n%ports))
}

// dialLimit bounds connecting, and every wait for an answer.
const dialLimit = 5 * time.Second

// dial opens the nth connection.
func (s *loadSpec) dial(n uint64) (net.Conn, error) {
	from, to := s.source(n)
	dialer := net.Dialer{Timeout: dialLimit, LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))}
	dialer.SetMultipathTCP(false)
	return dialer.Dial("tcp4", to.String())
}

// listen opens the server's nth port, on all addresses. Plain TCP: Go's own default is MPTCP.
func (s *loadSpec) listen(n int) (net.Listener, error) {
	config := net.ListenConfig{}
	config.SetMultipathTCP(false)
	return config.Listen(context.Background(), "tcp4", fmt.Sprintf("0.0.0.0:%d", int(s.Service.Port())+n))
}

// tally counts for a client or server; any goroutine may add to it.
type tally struct {
	count, bytes atomic.Uint64

	mu     sync.Mutex
	errors map[string]uint64

	once    sync.Once
	started chan error // receives one value: nil at the first success, or the error that came before it
}

func newTally() *tally { return &tally{errors: map[string]uint64{}, started: make(chan error, 1)} }

// success says that the load flows.
func (t *tally) success() { t.once.Do(func() { t.started <- nil }) }

// fail counts an error by its class.
func (t *tally) fail(err error) {
	t.mu.Lock()
	t.errors[classify(err)]++
	t.mu.Unlock()
	t.once.Do(func() { t.started <- err })
}

// sample fills in the counters.
func (t *tally) sample(m *mark) {
	m.Count, m.Bytes = t.count.Load(), t.bytes.Load()
	t.mu.Lock()
	defer t.mu.Unlock()
	m.Errors = map[string]uint64{}
	for class, n := range t.errors {
		m.Errors[class] = n
	}
}

// classify names an error by what went wrong and not by where, so that the same ones add up.
func classify(err error) string {
	var timeout interface{ Timeout() bool }
	var errno syscall.Errno
	switch {
	case errors.As(err, &timeout) && timeout.Timeout():
		return "timeout"
	case errors.As(err, &errno):
		return errno.Error()
	}
	return err.Error()
}

// startClient starts the client and returns at its first success.
func startClient(spec []byte) (*helper, error) {
	var s loadSpec
	if err := decode(spec, &s); err != nil {
		return nil, err
	}
	t := newTally()
	h := &helper{sample: t.sample}
	switch s.Kind {
	case kindBulk:
		go bulkClient(&s, t)
	case kindHTTP:
		h.sample = httpClient(&s, t)
	case kindConnect:
		begun := new(atomic.Uint64)
		for range s.Parallel {
			go connectClient(&s, t, begun)
		}
	case kindPackets:
		go func() { t.fail(packetClient(&s, t)) }()
	default:
		return nil, fmt.Errorf("unknown kind of load %q", s.Kind)
	}
	if err := <-t.started; err != nil {
		return nil, fmt.Errorf("no connection to %s: %w", s.Service, err)
	}
	return h, nil
}

// startServer listens on every port and returns.
func startServer(spec []byte) (*helper, error) {
	var s loadSpec
	if err := decode(spec, &s); err != nil {
		return nil, err
	}
	t := newTally()
	start := map[string]func(*loadSpec, *tally) error{kindConnect: connectServer, kindPackets: packetServer}[s.Kind]
	if start != nil {
		if err := start(&s, t); err != nil {
			return nil, err
		}
		return &helper{sample: t.sample}, nil
	}
	serve := map[string]func(net.Conn, *tally) error{kindBulk: bulkServer, kindHTTP: httpServer}[s.Kind]
	if serve == nil {
		return nil, fmt.Errorf("unknown kind of load %q", s.Kind)
	}
	for n := range s.Ports {
		listener, err := s.listen(n)
		if err != nil {
			return nil, err
		}
		go accept(&s, listener, t, serve)
	}
	return &helper{sample: t.sample}, nil
}

// accept serves each connection of a listener on a goroutine of its own.
func accept(s *loadSpec, listener net.Listener, t *tally, serve func(net.Conn, *tally) error) {
	port := netip.MustParseAddrPort(listener.Addr().String()).Port()
	for {
		conn, err := listener.Accept()
		if err != nil {
			t.fail(err)
			return
		}
		go func() {
			defer conn.Close()
			if s.Header {
				if err := readHeader(conn, s, port); err != nil {
					t.fail(err)
					return
				}
			}
			if err := serve(conn, t); err != nil {
				t.fail(err)
			}
		}()
	}
}
