// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package netns_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/isthmus-net/isthmus/pkg/netns"
	"github.com/isthmus-net/isthmus/pkg/netns/netnstest"
	"golang.org/x/sys/unix"
)

// here is the ID of the namespace a function runs in.
func here(t testing.TB) netns.ID {
	t.Helper()
	ns, err := netns.Current()
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	return ns.ID()
}

func TestDoEntersAndReturns(t *testing.T) {
	ns := netnstest.New(t)
	home := here(t)
	var inside netns.ID
	if err := netns.Do(ns, func() error { inside = here(t); return nil }); err != nil {
		t.Fatal(err)
	}
	if inside != ns.ID() || inside == home {
		t.Errorf("inside %v, want %v, not home %v", inside, ns.ID(), home)
	}
	wrong := errors.New("wrong")
	if err := netns.Do(ns, func() error { return wrong }); err != wrong {
		t.Errorf("error %v, want the function's own", err)
	}
	if err := netns.Do(nil, func() error { inside = here(t); return nil }); err != nil || inside != home {
		t.Errorf("nil namespace: in %v with error %v, want home", inside, err)
	}
}

// TestDoConcurrently enters two namespaces from many goroutines, one of every four of which spoils its thread, and
// looks for threads that came back in the wrong place.
func TestDoConcurrently(t *testing.T) {
	spaces := []*netns.NS{netnstest.New(t), netnstest.New(t)}
	home := here(t)
	var all sync.WaitGroup
	for i := range 200 {
		all.Go(func() {
			ns := spaces[i%2]
			err := netns.Do(ns, func() error {
				for range 3 {
					runtime.Gosched()
					if got := here(t); got != ns.ID() {
						t.Errorf("in %v, want %v", got, ns.ID())
					}
				}
				if i%4 == 0 {
					runtime.LockOSThread() // one more lock than Do opens: the thread must die with its goroutine
				}
				if unix.Gettid() == os.Getpid() {
					t.Error("on the main thread, which cannot die")
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
			if got := here(t); got != home {
				t.Errorf("afterwards in %v, want %v", got, home)
			}
		})
	}
	all.Wait()
}

func TestDoPassesGoexitOn(t *testing.T) {
	ns := netnstest.New(t)
	reached := false
	done := make(chan struct{})
	go func() {
		defer close(done)
		netns.Do(ns, func() error { runtime.Goexit(); return nil })
		reached = true
	}()
	<-done
	if reached {
		t.Error("the caller went on after Goexit inside Do")
	}
}

func TestCreateRemove(t *testing.T) {
	netnstest.RequirePrivileged(t)
	path := filepath.Join(t.TempDir(), "netns", "node")
	ns, err := netns.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { netns.Remove(path) })
	if _, err := netns.Create(path); !errors.Is(err, os.ErrExist) {
		t.Errorf("second Create: %v, want that the path exists", err)
	}
	ns.Close()
	id, err := netns.Lookup(path)
	if err != nil || id != ns.ID() {
		t.Errorf("after Close the path leads to %v (%v), want %v", id, err, ns.ID())
	}
	if err := netns.Do(ns, func() error { return nil }); err == nil {
		t.Error("Do entered a closed handle")
	}
	for range 2 {
		if err := netns.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is still there: %v", path, err)
	}
	if mounts, _ := os.ReadFile("/proc/self/mounts"); strings.Contains(string(mounts), path) {
		t.Errorf("%s is still mounted", path)
	}
}

// TestRemoveHalfMade removes what a crash between the steps of Create leaves: a file without a mount.
func TestRemoveHalfMade(t *testing.T) {
	path := filepath.Join(t.TempDir(), "node")
	if err := os.WriteFile(path, nil, 0o444); err != nil {
		t.Fatal(err)
	}
	if _, err := netns.Open(path); err == nil || !strings.Contains(err.Error(), "not a network namespace") {
		t.Errorf("Open of a plain file: %v", err)
	}
	if os.Geteuid() != 0 {
		t.Skip("unmounting needs root")
	}
	if err := netns.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := netns.Remove(filepath.Join(path, "never", "was")); err != nil {
		t.Errorf("Remove of nothing: %v", err)
	}
}

func TestAnonymousPath(t *testing.T) {
	ns := netnstest.New(t)
	id, err := netns.Lookup(ns.Path())
	if err != nil || id != ns.ID() {
		t.Errorf("%s leads to %v (%v), want %v", ns.Path(), id, err, ns.ID())
	}
	ns.Close()
	if err := ns.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}

func TestSysctls(t *testing.T) {
	ns := netnstest.New(t)
	if err := netns.Forward(ns); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"net/ipv4/ip_forward":                 "1",
		"net/ipv4/conf/default/rp_filter":     "0",
		"net/ipv6/conf/default/disable_ipv6":  "1",
		"net/bridge/bridge-nf-call-iptables":  "0",
		"net/bridge/bridge-nf-call-arptables": "0",
	} {
		got, err := netns.ReadSysctl(ns, name)
		if errors.Is(err, os.ErrNotExist) {
			t.Logf("this kernel has no %s", name)
			continue
		}
		if err != nil || got != want {
			t.Errorf("%s = %q (%v), want %q", name, got, err, want)
		}
	}
	err := netns.SetSysctls(ns, netns.Sysctl{Name: "net/ipv4/no_such_thing", Value: "1"})
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("unknown setting: %v", err)
	}
	if err := netns.SetSysctls(ns, netns.Sysctl{Name: "net/bridge/no_such_thing", Value: "1"}); err != nil {
		t.Errorf("setting of a module that may be missing: %v", err)
	}
}

func TestReadSNMPCountsInsideOnly(t *testing.T) {
	ns, other := netnstest.New(t), netnstest.New(t)
	if _, err := netns.Dial(context.Background(), ns, "tcp", "127.0.0.1:9"); err == nil {
		t.Fatal("connected to a closed port")
	}
	for _, c := range []struct {
		ns   *netns.NS
		want uint64
	}{{ns, 1}, {other, 0}} {
		counters, err := netns.ReadSNMP(c.ns)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"TcpInCsumErrors", "TcpExtBeyondWindow", "TcpExtTCPACKSkippedSeq"} {
			if _, ok := counters[name]; !ok {
				t.Errorf("no counter %s", name)
			}
		}
		if got := counters["TcpOutRsts"]; got != c.want {
			t.Errorf("%s: TcpOutRsts = %d, want %d", c.ns, got, c.want)
		}
	}
}
