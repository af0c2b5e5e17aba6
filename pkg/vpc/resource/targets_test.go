// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package resource

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-net/isthmus/pkg/vpc"
)

var web = Key{KindTargetGroup, provider, "web"}

func target(last byte, port uint16) vpc.Target {
	return vpc.Target{Address: netip.AddrFrom4([4]byte{10, 0, 1, last}), Port: port, Zone: "use1-az1"}
}

// targetsOf are the last bytes of a group's registered targets, and of its draining ones.
func targetsOf(g *TargetGroup) string {
	var b strings.Builder
	for _, t := range g.Group.Targets {
		b.WriteString(" " + t.Address.String()[len("10.0.1."):])
	}
	b.WriteString(" |")
	for _, d := range g.Draining {
		b.WriteString(" " + d.Address.String()[len("10.0.1."):])
	}
	return strings.TrimSpace(b.String())
}

func TestTargets(t *testing.T) {
	w := connected(t)
	var next time.Time
	group := func() *TargetGroup { return get[*TargetGroup](w, KindTargetGroup, provider, "web") }
	for _, step := range []struct {
		name  string
		after time.Duration // since the step before
		do    func(*Tx) error
		want  string
	}{
		{"as it was", 0, func(*Tx) error { return nil }, "100 |"},
		{"register two", 0, register(target(101, 80), target(102, 80)), "100 101 102 |"},
		{"again", 0, register(target(102, 80), target(102, 80)), "100 101 102 |"},
		{"deregister one", time.Second, deregister(target(101, 80)), "100 102 | 101"},
		{"another", time.Second, deregister(target(102, 0)), "100 | 101 102"},
		{"one that drains", time.Second, deregister(target(101, 80)), "100 | 101 102"},
		{"register it again", time.Second, register(target(101, 80)), "100 101 | 102"},
		{"update the list", time.Second, func(t *Tx) error {
			g := Clone(group())
			g.Group.Targets = []vpc.Target{target(103, 80), target(101, 80)}
			g.Draining = nil
			_, err := t.Update(g, 0)
			return err
		}, "103 101 | 102 100"},
		{"before it is due", 296 * time.Second, func(t *Tx) error { next = t.Tick(); return nil }, "103 101 | 102 100"},
		{"when it is due", time.Second, func(t *Tx) error { next = t.Tick(); return nil }, "103 101 | 100"},
		{"a shorter delay", time.Second, func(t *Tx) error {
			g := Clone(group())
			g.Group.DeregistrationDelay = time.Second
			_, err := t.Update(g, 0)
			return err
		}, "103 101 |"},
		{"no delay", time.Second, func(t *Tx) error {
			g := Clone(group())
			g.Group.DeregistrationDelay = 0
			_, err := t.Update(g, 0)
			return err
		}, "103 101 |"},
		{"gone at once", time.Second, deregister(target(101, 80)), "103 |"},
	} {
		w.now = w.now.Add(step.after)
		w.must(asP, step.do)
		if got := targetsOf(group()); got != step.want {
			t.Errorf("%s: %q, want %q", step.name, got, step.want)
		}
		w.compile()
	}
	if want := start.Add(5*time.Second + 300*time.Second); !next.Equal(want) {
		t.Errorf("the last is due at %s, want %s", next, want)
	}
}

func register(targets ...vpc.Target) func(*Tx) error {
	return func(t *Tx) error { _, err := t.RegisterTargets(web, targets); return err }
}

func deregister(targets ...vpc.Target) func(*Tx) error {
	return func(t *Tx) error { _, err := t.DeregisterTargets(web, targets); return err }
}

// TestDrainingTargetsAreTold checks what the dataplane is told, and that nothing of it changes what is kept.
func TestDrainingTargetsAreTold(t *testing.T) {
	w := connected(t)
	w.must(asP, register(target(101, 80)))
	w.now = w.now.Add(time.Minute)
	w.must(asP, deregister(target(101, 80)))
	told := w.compile().TargetGroups[1].Targets
	if len(told) != 2 || told[0].Draining || !told[1].Draining || !told[1].DrainingSince.Equal(w.now) {
		t.Errorf("told %+v", told)
	}
	if g := get[*TargetGroup](w, KindTargetGroup, provider, "web"); len(g.Group.Targets) != 1 || g.Draining[0].Draining {
		t.Errorf("kept %+v", g)
	}
	// It keeps its address until it is gone.
	e := aBalancer("new", vpc.Network, "web", "a")
	e.Nodes[0].Address = addr("10.0.1.101")
	expect(t, w.try(asP, func(t *Tx) error { _, err := t.Create(e); return err }), broken{AlreadyExists, "ADDRESS_TAKEN", "InvalidIPAddress.InUse", "nodes[0].address"})
}

func TestTargetsAreCompleted(t *testing.T) {
	w := connected(t)
	w.must(asP, func(t *Tx) error {
		_, err := t.RegisterTargets(Key{KindTargetGroup, provider, "firewalls"}, []vpc.Target{{Address: addr("10.0.2.200")}})
		return err
	})
	want := []vpc.Target{
		{Address: addr("10.0.1.100"), Port: 6081, Zone: "use1-az1"},
		{Address: addr("10.0.2.200"), Port: 6081, Zone: "use1-az2"},
	}
	if got := get[*TargetGroup](w, KindTargetGroup, provider, "firewalls").Group.Targets; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	w.must(asP, register(vpc.Target{Address: addr("10.0.1.100"), Port: 8080, Zone: "use1-az2"}))
	if got := get[*TargetGroup](w, KindTargetGroup, provider, "web").Group.Targets; len(got) != 1 || got[0].Zone != "use1-az2" {
		t.Errorf("registered in another zone: %v", got)
	}
}

func TestTargetErrors(t *testing.T) {
	here := func(f func(*Tx) error) func(*world, *Tx) error {
		return func(_ *world, t *Tx) error { return f(t) }
	}
	judge(t, connected(t), []rule{
		{"unknown", asP, here(deregister(target(100, 8080), target(9, 80))), broken{NotFound, "TARGET_NOT_FOUND", "InvalidTarget", "targets[1]"}},
		{"another port", asP, here(deregister(target(100, 80))), broken{NotFound, "TARGET_NOT_FOUND", "InvalidTarget", "targets[0]"}},
		{"an ENI", asP, here(register(target(4, 80))), broken{AlreadyExists, "ADDRESS_TAKEN", "InvalidIPAddress.InUse", "targets[1].address"}},
		{"no port", asP, here(register(target(9, 0))), invalid("targets[1].port")},
		{"by a stranger", asC, here(register(target(9, 80))), broken{NotFound, "RESOURCE_NOT_FOUND", "TargetGroupNotFound", ""}},
	})
}
