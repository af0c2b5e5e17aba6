// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-net/isthmus/dataplane"
	"github.com/isthmus-net/isthmus/dataplane/port"
	"github.com/isthmus-net/isthmus/pkg/netns"
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// fakeEngine takes states without compiling them, and complains when a port is closed while it is in use.
type fakeEngine struct {
	t testing.TB

	mu     sync.Mutex
	refuse error
	states []*vpc.State
	ports  map[string]port.Port
	health []map[dataplane.TargetID]dataplane.Health
	ended  [][]dataplane.TargetID
	routes []dataplane.ProbeRoute
	stats  dataplane.Stats
	flows  []dataplane.FlowInfo
}

func (e *fakeEngine) Apply(s *vpc.State, ports map[string]port.Port) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.inUse()
	if e.refuse != nil {
		return e.refuse
	}
	e.states, e.ports = append(e.states, s), maps.Clone(ports)
	e.inUse()
	return nil
}

// inUse complains about closed ports. The caller holds mu.
func (e *fakeEngine) inUse() {
	for id, p := range e.ports {
		if _, err := p.Receive(0, nil); err != nil {
			e.t.Errorf("port %s was closed while the engine used it", id)
		}
	}
}

func (e *fakeEngine) SetHealth(h map[dataplane.TargetID]dataplane.Health) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.health = append(e.health, maps.Clone(h))
	return nil
}

func (e *fakeEngine) EndDraining(ids []dataplane.TargetID) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ended = append(e.ended, ids)
	return nil
}

func (e *fakeEngine) ProbeRoutes() []dataplane.ProbeRoute {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.routes
}

func (e *fakeEngine) Run(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

func (e *fakeEngine) Stats() dataplane.Stats {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.stats
	if n := len(e.states); n > 0 {
		s.Revision = e.states[n-1].Revision
	}
	return s
}

func (e *fakeEngine) Flows(_ context.Context, each func(dataplane.FlowInfo) bool) error {
	for _, f := range e.flows {
		if !each(f) {
			break
		}
	}
	return nil
}

func (e *fakeEngine) Revision() uint64 { return e.Stats().Revision }

// portIDs are the ports that the engine uses.
func (e *fakeEngine) portIDs() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Sorted(maps.Keys(e.ports))
}

// endings are the calls of EndDraining so far.
func (e *fakeEngine) endings() [][]dataplane.TargetID {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.ended)
}

// applies is how many states the engine has taken.
func (e *fakeEngine) applies() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.states)
}

// fakeKernel opens memory ports and keeps one device of a name in a namespace, as the kernel does.
type fakeKernel struct {
	mu      sync.Mutex
	spaces  map[string]uint64 // namespaces by path; those that are not listed exist
	opened  []string          // ids, in order
	transit []string          // ids of those opened for transit
	mtu     map[string]int    // of what is around a port by id; those that are not listed are wide enough
	wrong   map[string][]string
	devices map[string]*fakeDevice
	routes  map[string][]netip.Prefix // by id, of ports whose routes were changed
	dial    dialFunc
}

func newFakeKernel() *fakeKernel {
	return &fakeKernel{spaces: map[string]uint64{}, devices: map[string]*fakeDevice{}, routes: map[string][]netip.Prefix{}}
}

// fakeDevice is a memory port with a name of which there is one.
type fakeDevice struct {
	*port.Mem
	kernel    *fakeKernel
	place     string
	removed   bool
	addresses []netip.Addr
}

func (d *fakeDevice) SetAddresses(a []netip.Addr) { d.addresses = a }

func (d *fakeDevice) Close() error {
	d.kernel.mu.Lock()
	defer d.kernel.mu.Unlock()
	if d.kernel.devices[d.place] == d {
		delete(d.kernel.devices, d.place)
	}
	return d.Mem.Close()
}

var errNoNamespace = errors.New("no such namespace")

func (k *fakeKernel) open(spec *vpc.Port, transit bool) (device, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	ns, err := k.find(spec.Netns)
	if err != nil {
		return device{}, err
	}
	place := fmt.Sprint(ns.Inode, "/", spec.Netns, "/", spec.Device)
	if d := k.devices[place]; d != nil && !d.removed {
		return device{}, fmt.Errorf("device %s exists", spec.Device)
	}
	k.opened = append(k.opened, spec.ID)
	if transit {
		k.transit = append(k.transit, spec.ID)
	}
	d := &fakeDevice{Mem: port.NewMem(port.MemConfig{Name: spec.ID}), kernel: k, place: place}
	k.devices[place] = d
	return device{port: d, ns: ns, offloads: port.Offloads{VNetHdr: true, Csum: true, TSO: true, Reasons: []string{"USO: not here"}}}, nil
}

func (k *fakeKernel) setRoutes(spec *vpc.Port) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.routes[spec.ID] = spec.Routes
	return nil
}

func (k *fakeKernel) narrow(spec *vpc.Port, ways []way) error {
	if mtu, listed := k.mtu[spec.ID]; listed {
		return compare(ways, narrowError{netns: spec.Netns, link: "br", mtu: mtu})
	}
	return nil
}

func (k *fakeKernel) warnings(spec *vpc.Port, _ portUse) []string { return k.wrong[spec.ID] }

func (k *fakeKernel) openProbe() (device, dialFunc, error) {
	return device{port: port.NewMem(port.MemConfig{Name: dataplane.ProbePortID})}, k.dial, nil
}

func (k *fakeKernel) lookup(path string) (netns.ID, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.find(path)
}

// find is lookup for those who hold mu.
func (k *fakeKernel) find(path string) (netns.ID, error) {
	inode, listed := k.spaces[path]
	if listed && inode == 0 {
		return netns.ID{}, fmt.Errorf("%s: %w", path, errNoNamespace)
	}
	return netns.ID{Inode: inode}, nil
}

func (k *fakeKernel) gone(p port.Port) bool { return p.(*fakeDevice).removed }

// port is the device of an open port.
func (k *fakeKernel) port(id string) *port.Mem {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, d := range k.devices {
		if d.Name() == id {
			return d.Mem
		}
	}
	return nil
}

// openIDs are the ports opened so far, in order.
func (k *fakeKernel) openIDs() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.opened)
}

// noDial fails every health check.
func noDial(context.Context, netip.AddrPort) (net.Conn, error) { return nil, errors.New("no network") }

// eventually waits until a condition holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("in 20 s it did not happen that %s", what)
		}
	}
}

// start runs a daemon until the test ends, and waits until it is ready.
func start(t testing.TB, d *Daemon) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the daemon ended with: %v", err)
		}
	})
	select {
	case <-d.Ready():
	case err := <-done:
		done <- nil
		t.Fatalf("the daemon ended before it was ready: %v", err)
	case <-time.After(20 * time.Second):
		t.Fatal("the daemon is not ready after 20 s")
	}
}
