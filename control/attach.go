// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/isthmus-net/isthmus/dataplane"
	"github.com/isthmus-net/isthmus/dataplane/port"
	"github.com/isthmus-net/isthmus/pkg/netns"
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// Waits between attempts to open a port whose namespace is there.
const (
	firstRetry = 500 * time.Millisecond
	lastRetry  = 8 * time.Second
)

// When to look again at what is around ports, which belongs to others and may change. A look takes about 1 ms, so where
// there are more than manyPorts, those without GWLB endpoints, where least goes wrong, wait longer in proportion; and no more
// than mostLooks are had at a time.
const (
	lookAgain = 10 * time.Second
	lookSoon  = 2 * time.Second // after a warning: somebody may be at it
	manyPorts = 64
	mostLooks = 16
)

// maxClosing is how many ports are closed at once; each holds a thread meanwhile.
const maxClosing = 64

// device is what an opener opens.
type device struct {
	port     port.Port
	offloads port.Offloads
	ns       netns.ID // the namespace it is in
	steered  bool     // as steering says
	steering dataplane.PortUse
}

// dialFunc connects to an address of dataplane.ProbeNet through the probe port.
type dialFunc func(ctx context.Context, to netip.AddrPort) (net.Conn, error)

// opener is where ports come from: the kernel, or a test's memory.
type opener interface {
	// open opens a port in its namespace and configures it, for transit where a GWLB endpoint is alone on it.
	open(spec *vpc.Port, transit bool) (device, error)
	// setRoutes makes the routes through the device of an open port those of spec.
	setRoutes(spec *vpc.Port) error
	// narrow says what of a port and the ways from it to appliances carries less than they need, as a *narrowError; nil if
	// nothing does.
	narrow(spec *vpc.Port, ways []way) error
	// warnings says what around an open port is not as its traffic needs it, each as doctor.Finding.String does.
	warnings(spec *vpc.Port, use portUse) []string
	// openProbe opens the port that health checks enter by, in a namespace of its own, and says how to dial there.
	openProbe() (device, dialFunc, error)
	// lookup says which namespace a path leads to.
	lookup(path string) (netns.ID, error)
	// gone says whether the device of an open port has been removed by others.
	gone(p port.Port) bool
}

// attachment is a port of the state, open or not.
type attachment struct {
	spec vpc.Port
	use  portUse
	device
	used     port.Port // what the engine uses: the device's port, wrapped or not; nil while it is not open
	err      error     // why it is not open
	retryAt  time.Time // when to try again, if its namespace is there
	wait     time.Duration
	warnings []string
	lookAt   time.Time // when to look for them again
}

// serves says whether the attachment is, but for its routes, as a port has to be that is used so.
func (at *attachment) serves(spec *vpc.Port, use portUse) bool {
	old := at.spec
	old.Routes, old.TableRoutes = spec.Routes, spec.TableRoutes
	return reflect.DeepEqual(old, *spec) && at.use.transit(spec) == use.transit(spec)
}

// reroute gives ports that stay the routes of their newest spec. Only then does what they lead to change: the device and
// its flows are left alone.
func (a *attacher) reroute(s *vpc.State) {
	for i := range s.Ports {
		spec := &s.Ports[i]
		at := a.ports[spec.ID]
		if at == nil || slices.Equal(at.spec.Routes, spec.Routes) && slices.Equal(at.spec.TableRoutes, spec.TableRoutes) {
			continue
		}
		at.spec.Routes, at.spec.TableRoutes = spec.Routes, spec.TableRoutes
		if at.used == nil {
			continue
		}
		if err := a.from.setRoutes(&at.spec); err != nil {
			a.log.Warn("routes of a port are not as they should be", "port", spec.ID, "netns", spec.Netns, "error", err)
		}
	}
}

// attacher opens and closes ports. It is not a task: the reconciler calls it, one call at a time, so that it knows
// between which calls of engine.Apply a port comes or goes.
type attacher struct {
	from  opener
	wrap  func(id string, p port.Port) port.Port
	log   *slog.Logger
	ports map[string]*attachment
	probe port.Port
	said  map[saidKey]string // what was last logged about a port
}

// saidKey is a port and a matter that is logged again only when it changes.
type saidKey struct{ port, matter string }

func newAttacher(from opener, wrap func(string, port.Port) port.Port, log *slog.Logger) *attacher {
	if wrap == nil {
		wrap = func(_ string, p port.Port) port.Port { return p }
	}
	return &attacher{from: from, wrap: wrap, log: log, ports: map[string]*attachment{}, said: map[saidKey]string{}}
}

// openProbe opens the daemon's own port and returns how health checks dial through it.
func (a *attacher) openProbe() (dialFunc, error) {
	d, dial, err := a.from.openProbe()
	if err != nil {
		return nil, fmt.Errorf("opening the port for health checks: %w", err)
	}
	a.probe = a.wrap(dataplane.ProbePortID, d.port)
	return dial, nil
}

// closeAll closes every port.
func (a *attacher) closeAll() {
	a.close(slices.Collect(maps.Values(a.ports))...)
	clear(a.ports)
	if a.probe != nil {
		a.closePorts([]port.Port{a.probe})
		a.probe = nil
	}
}

// openPorts returns those of the attachments that are open, and the probe port, by id.
func (a *attacher) openPorts(attachments map[string]*attachment) map[string]port.Port {
	ports := make(map[string]port.Port, len(attachments)+1)
	for id, at := range attachments {
		if at.used != nil {
			ports[id] = at.used
		}
	}
	if a.probe != nil {
		ports[dataplane.ProbePortID] = a.probe
	}
	return ports
}

// attach opens a port, or finds out why it does not open.
func (a *attacher) attach(spec *vpc.Port, use portUse, now time.Time) *attachment {
	at := &attachment{spec: *spec, use: use}
	a.try(at, now)
	return at
}

// try opens the port of an attachment. What fails is logged when it is news, and tried again later.
func (a *attacher) try(at *attachment, now time.Time) {
	d, err := a.open(at)
	at.device, at.err = d, err
	if err != nil {
		at.wait = min(max(2*at.wait, firstRetry), lastRetry)
		at.retryAt = now.Add(at.wait)
		if a.news(at, "error", err.Error()) {
			a.log.Warn("port is not open; it is tried again", "port", at.spec.ID, "netns", at.spec.Netns, "error", err)
		}
		return
	}
	at.wait, at.lookAt = 0, now
	at.used = a.wrap(at.spec.ID, d.port)
	a.news(at, "error", "")
	a.log.Info("port opened", "port", at.spec.ID, "netns", at.spec.Netns, "device", at.spec.Device, "kind", at.spec.Kind.String())
	if off := strings.Join(d.offloads.Reasons, "; "); a.news(at, "offloads", off) && off != "" {
		a.log.Info("offloads off: "+off, "port", at.spec.ID)
	}
}

// open opens the device of an attachment, if what is around it carries what is sent there.
func (a *attacher) open(at *attachment) (device, error) {
	d, err := a.from.open(&at.spec, at.use.transit(&at.spec))
	if err != nil || len(at.use.ways) == 0 {
		return d, err
	}
	if err := a.from.narrow(&at.spec, at.use.ways); err != nil {
		d.port.Close()
		return device{}, err
	}
	return d, nil
}

// look renews the warnings about ports where it is time, logs those that are news, and says whether there are any.
func (a *attacher) look(now time.Time) (news bool) {
	looks := 0
	for _, at := range a.ports {
		var warnings []string
		if at.used != nil {
			if now.Before(at.lookAt) || looks == mostLooks {
				continue
			}
			looks++
			warnings = a.from.warnings(&at.spec, at.use)
			switch {
			case len(warnings) > 0:
				at.lookAt = now.Add(lookSoon)
			case at.use.nextHop:
				at.lookAt = now.Add(lookAgain)
			default:
				at.lookAt = now.Add(lookAgain * time.Duration(max(1, len(a.ports)/manyPorts)))
			}
		}
		if slices.Equal(warnings, at.warnings) {
			continue
		}
		news, at.warnings = true, warnings
		if text := strings.Join(warnings, "; "); a.news(at, "warnings", text) && text != "" {
			a.log.Warn("what is around a port does not suit it: "+text, "port", at.spec.ID, "netns", at.spec.Netns)
		}
	}
	return news
}

// news says whether a text about a port differs from the last one about the same matter.
func (a *attacher) news(at *attachment, matter, text string) bool {
	key := saidKey{at.spec.ID, matter}
	old := a.said[key]
	a.said[key] = text
	return old != text
}

// detach takes the port of an attachment out of use and returns it, to be closed when no worker uses it any more.
func (a *attacher) detach(at *attachment, why error, now time.Time) port.Port {
	p := at.used
	at.used, at.device, at.err, at.retryAt = nil, device{}, why, now
	a.log.Warn("port lost", "port", at.spec.ID, "netns", at.spec.Netns, "error", why)
	return p
}

// close closes the ports of attachments that are open. No worker may use them any more.
func (a *attacher) close(attachments ...*attachment) {
	var ports []port.Port
	for _, at := range attachments {
		if at.used != nil {
			ports = append(ports, at.used)
			at.used, at.device = nil, device{}
		}
	}
	a.closePorts(ports)
}

// closePorts closes ports side by side: the kernel takes about 20 ms to remove a device, but waits once for many.
func (a *attacher) closePorts(ports []port.Port) {
	var group errgroup.Group
	group.SetLimit(maxClosing)
	for _, p := range ports {
		group.Go(func() error {
			if err := p.Close(); err != nil {
				a.log.Warn("closing a port failed", "port", p.Name(), "error", err)
				return nil
			}
			a.log.Info("port closed", "port", p.Name())
			return nil
		})
	}
	group.Wait()
}

// lost says why an open port cannot go on: its namespace is gone or another, or its device is. Nil means it can.
func (a *attacher) lost(at *attachment) error {
	id, err := a.from.lookup(at.spec.Netns)
	switch {
	case err != nil:
		return err
	case id != at.ns:
		return fmt.Errorf("%s leads to another namespace now", at.spec.Netns)
	case a.from.gone(at.port):
		return fmt.Errorf("device %s was removed", at.spec.Device)
	}
	return nil
}

// setAddresses tells ports that answer ARP which addresses are theirs.
func (a *attacher) setAddresses(s *vpc.State) {
	of := map[string][]netip.Addr{}
	add := func(enis []vpc.ENI) {
		for i := range enis {
			for _, id := range enis[i].Ports {
				of[id] = append(of[id], enis[i].Address)
			}
		}
	}
	for i := range s.LoadBalancers {
		add(s.LoadBalancers[i].Nodes)
	}
	for i := range s.Endpoints {
		add(s.Endpoints[i].ENIs)
	}
	for id, at := range a.ports {
		if p, ok := at.port.(port.Addresser); ok && at.used != nil {
			p.SetAddresses(of[id])
		}
	}
}
