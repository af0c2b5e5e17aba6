// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package port

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/isthmus-net/isthmus/pkg/netns/netnstest"
)

func TestProbe(t *testing.T) {
	netnstest.RequirePrivileged(t)
	start := time.Now()
	c := probe()
	t.Logf("%+v in %v", *c, time.Since(start))
	if !c.VNetHdr || len(c.Reasons) > 0 && !c.TSO && !c.USO {
		t.Errorf("%+v", *c)
	}
}

// TestProbeFindsFaults gives the rig what broken kernels do.
func TestProbeFindsFaults(t *testing.T) {
	n := newNamespace(t)
	n.do(func() error {
		var r rig
		defer r.close()
		if err := r.open(); err != nil {
			return err
		}
		if err := r.tryPlain(); err != nil {
			return fmt.Errorf("sound rig: %w", err)
		}
		bad := probePacket(GSOTCPv4, 500, 1537)
		bad.CsumOffset = udpCsumOffset // refused: the header does not fit the type
		if r.compareSegments(bad) == nil {
			return errors.New("a refused write passes")
		}
		if errno := r.in.write(probePacket(GSOTCPv4, 500, 1537)); errno != 0 {
			return errno
		}
		// The segments of the packet before come first, and differ in size.
		if r.compareSegments(probePacket(GSOTCPv4, 400, 1537)) == nil {
			return errors.New("wrong segments pass")
		}
		for got, err := r.read(); err == nil; got, err = r.read() { // the others
			if got.Len() > 540 {
				return fmt.Errorf("segment of %d bytes", got.Len())
			}
		}
		if r.compareSegments(probePacket(GSOTCPv4, 500, 1537)) != nil {
			return errors.New("the rig does not recover")
		}
		return nil
	})
}

func TestThrowawayThread(t *testing.T) {
	// Every thread is held by a goroutine in turn, so one of them is the main thread.
	done := make(chan int)
	for range 20 {
		go onThrowawayThread(func() { done <- unix.Gettid() })
	}
	for range 20 {
		if tid := <-done; tid == unix.Getpid() {
			t.Error("on the main thread")
		}
	}
}

func TestChoose(t *testing.T) {
	all := &Capabilities{VNetHdr: true, TSO: true, USO: true}
	for _, c := range []struct {
		name    string
		off     Switches
		works   *Capabilities
		want    Offloads
		reasons int
	}{
		{"all", Switches{}, all, Offloads{VNetHdr: true, Csum: true, TSO: true, USO: true}, 0},
		{"no TSO wanted", Switches{TSO: true}, all, Offloads{VNetHdr: true, Csum: true, USO: true}, 1},
		{"no USO wanted", Switches{USO: true}, all, Offloads{VNetHdr: true, Csum: true, TSO: true}, 1},
		{"none wanted", Switches{Offloads: true}, all, Offloads{VNetHdr: true}, 3},
		{"plain wanted", Switches{Plain: true}, nil, Offloads{}, 1},
		{"USO broken", Switches{USO: true}, &Capabilities{VNetHdr: true, TSO: true, Reasons: []string{"x"}},
			Offloads{VNetHdr: true, Csum: true, TSO: true}, 1},
		{"header broken", Switches{}, &Capabilities{Reasons: []string{"x"}}, Offloads{}, 1},
	} {
		got := choose(c.off, c.works)
		if len(got.Reasons) != c.reasons || slices.Contains(got.Reasons, "") {
			t.Errorf("%s: reasons %q", c.name, got.Reasons)
		}
		got.Reasons = nil
		if got.VNetHdr != c.want.VNetHdr || got.Csum != c.want.Csum || got.TSO != c.want.TSO || got.USO != c.want.USO {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}
