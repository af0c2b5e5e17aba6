// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

// Package netnstest lets tests use namespaces: whether they can, and ones that go away with the test.
package netnstest

import (
	"os"
	"testing"

	"github.com/isthmus-net/isthmus/pkg/netns"
)

// Required is the environment variable that, set to 1, turns the skips of RequirePrivileged into failures.
const Required = "ISTHMUS_REQUIRE_PRIVILEGED"

// RequirePrivileged skips the test, and says why, where network namespaces or TUN devices cannot be made; with
// ISTHMUS_REQUIRE_PRIVILEGED=1 it fails the test instead.
func RequirePrivileged(t testing.TB) {
	t.Helper()
	if err := probe(); err != nil {
		if os.Getenv(Required) == "1" {
			t.Fatalf("%s=1, but: %v", Required, err)
		}
		t.Skipf("needs root, network namespaces and /dev/net/tun: %v", err)
	}
}

// New returns a prepared anonymous namespace that is closed when the test ends, after RequirePrivileged.
func New(t testing.TB) *netns.NS {
	t.Helper()
	RequirePrivileged(t)
	ns, err := netns.Anonymous()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	if err := netns.Prepare(ns); err != nil {
		t.Fatal(err)
	}
	return ns
}

func probe() error {
	tun, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	tun.Close()
	ns, err := netns.Anonymous()
	if err != nil {
		return err
	}
	return ns.Close()
}
