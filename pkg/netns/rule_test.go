// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package netns_test

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/isthmus-net/isthmus/pkg/netns"
)

// A rule without an interface concerns what the namespace sends itself, one with another's does not.
func TestRules(t *testing.T) {
	here, there := pair(t)
	l, err := netns.Listen(there, "tcp", "10.0.0.2:80")
	must(t, err)
	defer l.Close()
	connect := func() error {
		conn, err := netns.Dial(context.Background(), here, "tcp", "10.0.0.2:80")
		if err == nil {
			conn.Close()
		}
		return err
	}
	must(t, netns.SetRoute(here, netns.Route{Destination: netip.MustParsePrefix("10.0.0.0/24"), Table: 77})) // a black hole
	must(t, connect())
	must(t, netns.AddRule(here, netns.Rule{Priority: 100, InInterface: "left", Table: 77}))
	must(t, connect())
	rule := netns.Rule{Priority: 101, Table: 77}
	must(t, netns.AddRule(here, rule))
	if err := connect(); !errors.Is(err, unix.EINVAL) {
		t.Errorf("connected in spite of the rule: %v", err)
	}
	if err := netns.AddRule(here, rule); !errors.Is(err, os.ErrExist) {
		t.Errorf("second rule of the kind: %v", err)
	}
	rule.IPv6 = true
	must(t, netns.AddRule(here, rule))
}
