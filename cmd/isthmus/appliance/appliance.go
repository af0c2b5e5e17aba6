// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package appliance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/isthmus-net/isthmus/pkg/netns"
)

// Mode says what becomes of packets that may pass.
type Mode uint8

// Modes.
const (
	Hairpin Mode = iota // they go back as they came
	TUN                 // they pass through the kernel of the host
)

// String is the mode's name in configuration and output.
func (m Mode) String() string { return [...]string{"hairpin", "tun"}[m] }

// Options say what an appliance does. The zero value hairpins everything that comes to any address of the process's own
// namespace, and answers no health check.
type Options struct {
	// Netns is where the appliance lives; nil is the namespace of the process. It must stay open as long as the appliance runs.
	Netns *netns.NS
	// Listen is the IPv4 address and port that GENEVE comes to; not valid means every address, port 6081.
	Listen netip.AddrPort

	Mode Mode
	// Device is the name of the TUN device of tun mode, at most 15 bytes. With %d in it each endpoint has one of its own.
	Device string
	// NoRoutes leaves forwarding and routes from and to the device to the host. Otherwise the appliance turns forwarding on,
	// reverse path filtering off, and has what comes out of the device go back into it where no rule sends it elsewhere.
	NoRoutes bool
	// NoOffloads does without super-packets, on the socket and on the device.
	NoOffloads bool

	// Drop has rules; a packet that one of them matches is dropped.
	Drop []Rule
	// MaxFlows is how many flows are remembered; 0 means DefaultMaxFlows.
	MaxFlows int

	// Health is the address to answer the health check on, such as ":80"; empty answers none. The answer is HTTP 200 with
	// Stats in JSON, on the path /flows with FlowStats. While the appliance is unhealthy the port is closed, which fails checks of TCP
	// and of HTTP.
	Health string
	// FailHealth is the path of a file: while it exists, the appliance is unhealthy.
	FailHealth string

	// Print is where one line a packet goes, at most PrintRate of them a second; nil prints nothing, 0 stands for 10.
	Print     io.Writer
	PrintRate int
}

// Appliance is an appliance. Its methods may be called from any goroutine.
type Appliance struct {
	opts   Options
	start  time.Time
	rx     *receiver
	alarm  *alarm
	health *health
	carry  *errgroup.Group // of Run

	sends    sendCounts
	receives atomic.Uint64
	notTaken atomic.Uint64 // by devices

	mu             sync.Mutex // guards what follows
	now            time.Duration
	flows          *flowTable
	endpoints      map[uint64]*endpoint
	received, sent Traffic
	dropped        [causeCount]uint64
	tunnels        []*tunnel
	print          *printer
}

// New opens what an appliance needs: from now on its socket takes datagrams, and its health check is answered. The
// caller has to Run it, or to Close it.
func New(o Options) (*Appliance, error) {
	if !o.Listen.IsValid() {
		o.Listen = defaultListen
	}
	if o.MaxFlows == 0 {
		o.MaxFlows = DefaultMaxFlows
	}
	switch {
	case !o.Listen.Addr().Is4():
		return nil, fmt.Errorf("appliance: listen on %s: load balancers send GENEVE over IPv4 only; give an IPv4 address", o.Listen)
	case o.MaxFlows < 1:
		return nil, fmt.Errorf("appliance: room for %d flows: allow at least one", o.MaxFlows)
	case o.Mode == TUN && o.Device == "":
		return nil, errors.New("appliance: tun mode needs the name of a device")
	}
	a := &Appliance{opts: o, start: time.Now(), flows: newFlowTable(o.MaxFlows), endpoints: map[uint64]*endpoint{}}
	if o.Print != nil {
		a.print = newPrinter(o.Print, o.PrintRate)
	}
	if err := a.open(); err != nil {
		a.Close()
		return nil, fmt.Errorf("appliance in %s: %w", o.Netns, err)
	}
	return a, nil
}

// open opens everything in the appliance's namespace.
func (a *Appliance) open() (err error) {
	if a.alarm, err = newAlarm(); err != nil {
		return err
	}
	if a.opts.Health != "" {
		a.health = newHealth(a)
		// At once, so that an address that cannot be had fails New.
		if err := a.health.follow(); err != nil {
			return err
		}
	}
	return netns.Do(a.opts.Netns, func() (err error) {
		if a.opts.Mode == TUN && !a.opts.NoRoutes {
			if err := forward(a.opts.Netns); err != nil {
				return err
			}
		}
		if a.sharedDevice() {
			if _, err := a.openTunnel(0); err != nil {
				return err
			}
		}
		a.rx, err = listen(a.opts.Listen, !a.opts.NoOffloads)
		return err
	})
}

// sharedDevice says whether all endpoints share a device.
func (a *Appliance) sharedDevice() bool { return a.opts.Mode == TUN && !perEndpoint(a.opts.Device) }

// Close frees what New opened, for an appliance that has not run and will not.
func (a *Appliance) Close() {
	for _, t := range a.tunnels {
		t.device.close()
	}
	if a.rx != nil {
		a.rx.close()
	}
	if a.health != nil {
		a.health.stop()
	}
	if a.alarm != nil {
		a.alarm.close()
	}
}

// Run carries packets until ctx ends, which is no error, and closes the appliance. It can run once.
func (a *Appliance) Run(ctx context.Context) error {
	defer a.Close()
	group, ctx := errgroup.WithContext(ctx)
	a.carry = group
	group.Go(func() error {
		<-ctx.Done()
		a.alarm.ring()
		return nil
	})
	if a.health != nil {
		group.Go(func() error { return a.health.run(ctx) })
	}
	work := a.hairpin
	if a.opts.Mode == TUN {
		work = a.inward
	}
	for _, t := range a.tunnels {
		group.Go(func() error { return a.outward(t) })
	}
	group.Go(func() error { return netns.Do(a.opts.Netns, work) })
	if err := group.Wait(); err != nil {
		return fmt.Errorf("appliance in %s: %w", a.opts.Netns, err)
	}
	return nil
}

// SetHealthy has the appliance answer its health check, or not. A file of FailHealth has a say of its own.
func (a *Appliance) SetHealthy(healthy bool) {
	if a.health != nil {
		a.health.set(healthy)
	}
}

// newSender makes a sender in the namespace of the calling thread.
func (a *Appliance) newSender() (*sender, error) {
	tx, err := newSender(&a.sends)
	if err == nil {
		tx.whole = a.opts.NoOffloads
	}
	return tx, err
}

// drop counts a packet that went no further.
func (a *Appliance) drop(c Cause) {
	a.mu.Lock()
	a.dropped[c]++
	a.mu.Unlock()
}
