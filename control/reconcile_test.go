// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/isthmus-net/isthmus/dataplane/port"
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// newTestReconciler makes a reconciler whose methods the test calls itself.
func newTestReconciler(t *testing.T) (*reconciler, *fakeEngine, *fakeKernel) {
	e, k := &fakeEngine{t: t}, newFakeKernel()
	log := slog.New(slog.DiscardHandler)
	r := newReconciler(reconcilerConfig{engine: e, attacher: newAttacher(k, nil, log), applied: func(*vpc.State) {}, log: log})
	return r, e, k
}

func put(t *testing.T, r *reconciler, s *vpc.State) {
	t.Helper()
	if err := r.put(s); err != nil {
		t.Fatal(err)
	}
	r.publish()
}

func TestUnchangedPortsStayOpen(t *testing.T) {
	r, e, k := newTestReconciler(t)
	put(t, r, reference())
	all := []string{"consumer-a", "provider-a", "provider-b"}
	if got := e.portIDs(); !slices.Equal(got, all) {
		t.Fatalf("the engine uses %v, want %v", got, all)
	}
	s := reference()
	s.Endpoints = nil
	put(t, r, s)
	if got := k.openIDs(); len(got) != 3 {
		t.Errorf("ports were opened again: %v", got)
	}
}

func TestRemovedPortsAreClosedAfterwards(t *testing.T) {
	r, e, k := newTestReconciler(t)
	put(t, r, reference())
	s := reference()
	s.Ports = s.Ports[:2]
	put(t, r, s)
	if got := e.portIDs(); !slices.Equal(got, []string{"consumer-a", "provider-a"}) {
		t.Errorf("the engine uses %v", got)
	}
	if len(k.devices) != 2 {
		t.Errorf("%d devices are there, want 2", len(k.devices))
	}
}

// TestChangedPortKeepsItsName changes a port whose device keeps its name: the old one has to go first.
func TestChangedPortKeepsItsName(t *testing.T) {
	r, e, k := newTestReconciler(t)
	put(t, r, reference())
	s := reference()
	s.Ports[0].Addresses[0] = prefix("10.0.3.5/24")
	put(t, r, s)
	if got := k.openIDs(); !slices.Equal(got[3:], []string{"consumer-a"}) {
		t.Errorf("opened %v", got)
	}
	if len(e.portIDs()) != 3 || e.applies() != 3 {
		t.Errorf("the engine uses %v after %d states, want all three ports after 3", e.portIDs(), e.applies())
	}
}

// TestChangedRoutesLeaveThePortOpen adds an ENI to what a namespace reaches: connections to the others must not notice.
func TestChangedRoutesLeaveThePortOpen(t *testing.T) {
	r, e, k := newTestReconciler(t)
	put(t, r, reference())
	s := reference()
	s.Ports[0].Routes = append(s.Ports[0].Routes, prefix("10.0.3.7/32"))
	put(t, r, s)
	if got := k.openIDs(); len(got) != 3 || e.applies() != 2 {
		t.Errorf("opened %v in %d states, want three ports and 2 states", got, e.applies())
	}
	if got := k.routes; len(got) != 1 || !slices.Equal(got["consumer-a"], s.Ports[0].Routes) {
		t.Errorf("routes were set to %v", got)
	}
	put(t, r, s)
	if len(k.routes) != 1 {
		t.Errorf("routes of ports that did not change were set: %v", k.routes)
	}
}

func TestRefusedStateChangesNothing(t *testing.T) {
	r, e, k := newTestReconciler(t)
	put(t, r, reference())
	e.refuse = errors.New("no room")
	s := reference()
	s.Ports = append(s.Ports[1:], vpc.Port{ID: "new", VPC: "vpc-consumer", Kind: vpc.TUN, Netns: "/run/netns/new", Device: "new"})
	if err := r.put(s); err == nil || !strings.Contains(err.Error(), "no room") {
		t.Fatalf("got %v", err)
	}
	if got := e.portIDs(); len(got) != 3 || len(k.devices) != 3 {
		t.Errorf("the engine uses %v, %d devices are there", got, len(k.devices))
	}
	if r.state.Ports[0].ID != "consumer-a" {
		t.Error("the refused state is in force")
	}
}

func TestNamespacesComeAndGo(t *testing.T) {
	r, e, k := newTestReconciler(t)
	k.spaces["/run/netns/provider"] = 0
	put(t, r, reference())
	if got := e.portIDs(); !slices.Equal(got, []string{"consumer-a"}) {
		t.Fatalf("without the provider's namespace the engine uses %v", got)
	}
	if p := r.report.Load().ports[1]; p.open || !strings.Contains(p.problem, "no such namespace") {
		t.Errorf("the port of a missing namespace is reported as %+v", p)
	}
	r.checkPorts(false) // too early to try again
	k.spaces["/run/netns/provider"] = 5
	r.checkPorts(false)
	if got := e.portIDs(); len(got) != 1 {
		t.Errorf("tried again at once: %v", got)
	}
	r.checkPorts(true)
	if got := e.portIDs(); len(got) != 3 {
		t.Errorf("after the namespace came the engine uses %v", got)
	}
	if p := r.report.Load().ports[1]; !p.open || p.problem != "" || p.queues != 1 {
		t.Errorf("an open port is reported as %+v", p)
	}

	k.spaces["/run/netns/provider"] = 6 // another one at the same path
	r.checkPorts(false)
	if got := k.openIDs(); len(got) != 5 || len(e.portIDs()) != 3 {
		t.Errorf("a replaced namespace: opened %v, in use %v", got, e.portIDs())
	}
	k.spaces["/run/netns/consumer-a"] = 0
	r.checkPorts(false)
	if got := e.portIDs(); !slices.Equal(got, []string{"provider-a", "provider-b"}) {
		t.Errorf("after the consumer's namespace went the engine uses %v", got)
	}
	if r.report.Load().state == nil {
		t.Error("the state is lost")
	}
}

func TestRemovedDeviceIsMadeAgain(t *testing.T) {
	r, _, k := newTestReconciler(t)
	put(t, r, reference())
	r.attacher.ports["consumer-a"].port.(*fakeDevice).removed = true
	r.checkPorts(false)
	if got := k.openIDs(); !slices.Equal(got[3:], []string{"consumer-a"}) {
		t.Errorf("opened %v", got)
	}
}

func TestAddressesOfPorts(t *testing.T) {
	r, _, _ := newTestReconciler(t)
	put(t, r, reference())
	for id, want := range map[string]string{"consumer-a": "[10.0.2.5]", "provider-a": "[10.0.1.20]"} {
		d := r.attacher.ports[id].port.(*fakeDevice)
		if len(d.addresses) != 1 || "["+d.addresses[0].String()+"]" != want {
			t.Errorf("port %s answers for %v, want %s", id, d.addresses, want)
		}
	}
}

func TestWrappedPorts(t *testing.T) {
	type wrapped struct{ port.Port }
	e, k := &fakeEngine{t: t}, newFakeKernel()
	k.dial = noDial
	var seen []string
	d, err := newDaemon(Options{WrapPort: func(id string, p port.Port) port.Port {
		seen = append(seen, id)
		return wrapped{p}
	}}, e, k)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- d.Run(ctx) }()
	if err := d.Apply(ctx, reference()); err != nil {
		t.Fatal(err)
	}
	<-d.Ready()
	if _, ok := e.ports["consumer-a"].(wrapped); !ok {
		t.Errorf("the engine uses a %T", e.ports["consumer-a"])
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if !slices.Equal(seen, []string{"probe", "consumer-a", "provider-a", "provider-b"}) {
		t.Errorf("wrapped %v", seen)
	}
	if len(k.devices) != 0 {
		t.Errorf("%d devices are left", len(k.devices))
	}
	if err := d.Run(t.Context()); err == nil {
		t.Error("a daemon ran twice")
	}
}

// write puts a file in place by renaming, or over the old one.
func write(t testing.TB, path string, data []byte, rename bool) {
	t.Helper()
	to := path
	if rename {
		to += ".new"
	}
	if err := os.WriteFile(to, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if rename {
		if err := os.Rename(to, path); err != nil {
			t.Fatal(err)
		}
	}
}

func marshal(t testing.TB, s *vpc.State) []byte {
	t.Helper()
	data, err := MarshalState(s)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestFileIsFollowed(t *testing.T) {
	e, k := &fakeEngine{t: t}, newFakeKernel()
	k.dial = noDial
	path := filepath.Join(t.TempDir(), "state.yaml")
	s := reference()
	s.Revision, s.HashKey = 0, [16]byte{}
	write(t, path, marshal(t, s), false)
	d, err := newDaemon(Options{StateFile: path}, e, k)
	if err != nil {
		t.Fatal(err)
	}
	start(t, d)
	if got := d.State(); got.Revision != 1 || got.HashKey == [16]byte{} {
		t.Fatalf("in force is revision %d with key %x", got.Revision, got.HashKey)
	}
	if err := d.Apply(t.Context(), reference()); err == nil || !strings.Contains(err.Error(), "follows") {
		t.Errorf("Apply beside a file: %v", err)
	}

	write(t, path, []byte("vpcs: [{idd: 1}]\n"), false)
	eventually(t, "the file is refused", func() bool { return d.reconcile.report.Load().problem != "" })
	rep := d.reconcile.report.Load()
	if rep.desired != 2 || rep.state.Revision != 1 || !strings.Contains(rep.problem, "state.yaml:1:9: vpcs[0].idd") {
		t.Errorf("after a wrong file: desired %d, in force %d, problem %s", rep.desired, rep.state.Revision, rep.problem)
	}

	s.Endpoints = nil
	key := d.State().HashKey
	write(t, path, marshal(t, s), true)
	eventually(t, "the new file is in force", func() bool { return d.State().Revision == 3 })
	if rep := d.reconcile.report.Load(); rep.problem != "" || len(rep.state.Endpoints) != 0 || rep.state.HashKey != key {
		t.Errorf("after a right file: problem %q, %d endpoints, key %x", rep.problem, len(rep.state.Endpoints), rep.state.HashKey)
	}

	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the missing file is noticed", func() bool { return d.reconcile.report.Load().problem != "" })
	if d.State().Revision != 3 {
		t.Error("a missing file changed the state")
	}
}

// TestLinkedFileIsFollowed replaces a configuration the way Kubernetes does: a link to a directory is exchanged.
func TestLinkedFileIsFollowed(t *testing.T) {
	e, k := &fakeEngine{t: t}, newFakeKernel()
	k.dial = noDial
	dir := t.TempDir()
	version := func(name string, revision uint64) {
		s := reference()
		s.Revision = revision
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name, "state.yaml"), marshal(t, s), false)
		next := filepath.Join(dir, "..next")
		if err := os.Symlink(name, next); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	version("one", 11)
	path := filepath.Join(dir, "state.yaml")
	if err := os.Symlink("..data/state.yaml", path); err != nil {
		t.Fatal(err)
	}
	d, err := newDaemon(Options{StateFile: path}, e, k)
	if err != nil {
		t.Fatal(err)
	}
	start(t, d)
	version("two", 12)
	eventually(t, "the second version is in force", func() bool { return d.State().Revision == 12 })
}

func TestWrongFileAtTheStart(t *testing.T) {
	for name, content := range map[string]string{"wrong": "vpcs: 5\n", "missing": ""} {
		path := filepath.Join(t.TempDir(), "state.yaml")
		if content != "" {
			write(t, path, []byte(content), false)
		}
		e, k := &fakeEngine{t: t}, newFakeKernel()
		d, err := newDaemon(Options{StateFile: path}, e, k)
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Run(t.Context()); err == nil || !strings.HasPrefix(err.Error(), "configuration: ") {
			t.Errorf("%s: the daemon ended with %v", name, err)
		}
	}
}

func TestApplyValidates(t *testing.T) {
	d, err := newDaemon(Options{}, &fakeEngine{t: t}, newFakeKernel())
	if err != nil {
		t.Fatal(err)
	}
	s := reference()
	s.VPCs = nil
	if err := d.Apply(t.Context(), s); err == nil {
		t.Error("a wrong state passed")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.Apply(ctx, reference()); !errors.Is(err, context.Canceled) {
		t.Errorf("Apply to a daemon that does not run: %v", err)
	}
}

func TestHashKeyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "isthmus.key")
	one, err := loadKey(path)
	if err != nil {
		t.Fatal(err)
	}
	two, err := loadKey(path)
	if err != nil || one != two || one == [16]byte{} {
		t.Errorf("keys %x and %x, error %v", one, two, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file has mode %v, error %v", info.Mode(), err)
	}
	if err := os.WriteFile(path, []byte("short\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := loadKey(path); err == nil {
		t.Error("a broken file passed")
	}
	socket := Options{Socket: "/run/isthmus/isthmus.sock"}
	stored := socket
	stored.API = &API{Store: "/var/lib/isthmus/store.db"}
	if keyFile(socket) != "/run/isthmus/isthmus.key" || keyFile(stored) != "/var/lib/isthmus/store.key" || keyFile(Options{}) != "" {
		t.Error("the key is not beside the socket")
	}
}
