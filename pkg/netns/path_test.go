// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package netns_test

import (
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/isthmus-net/isthmus/pkg/netns"
	"github.com/isthmus-net/isthmus/pkg/netns/netnstest"
)

func TestPathTo(t *testing.T) {
	ns, _ := pair(t)
	must(t, netns.SetMTU(ns, "left", 4000))
	must(t, netns.AddRoute(ns, "left", netip.MustParsePrefix("10.7.0.0/16"), netip.MustParseAddr("10.0.0.2")))
	must(t, netns.Do(ns, func() error {
		left, err := netlink.LinkByName("left")
		if err != nil {
			return err
		}
		to, err := netlink.ParseIPNet("10.8.0.0/16")
		if err != nil {
			return err
		}
		return netlink.RouteAdd(&netlink.Route{LinkIndex: left.Attrs().Index, Dst: to, MTU: 1400, Scope: netlink.SCOPE_LINK})
	}))
	for to, want := range map[string]netns.Path{
		"10.0.0.2":   {Link: "left", MTU: 4000},
		"10.7.1.2":   {Link: "left", MTU: 4000},
		"10.8.1.2":   {Link: "left", MTU: 1400},
		"10.0.0.1":   {Link: "lo", MTU: 65536, Local: true},
		"127.0.0.77": {Link: "lo", MTU: 65536, Local: true},
	} {
		if got, err := netns.PathTo(ns, netip.MustParseAddr(to)); err != nil || got != want {
			t.Errorf("to %s: %+v, %v; want %+v", to, got, err, want)
		}
	}
	if got, err := netns.PathTo(ns, netip.MustParseAddr("192.0.2.1")); err == nil {
		t.Errorf("to nowhere leads %+v", got)
	}
}

func TestTranslations(t *testing.T) {
	ns := netnstest.New(t)
	if got, err := netns.Translations(ns); err != nil || len(got) != 0 {
		t.Fatalf("in a new namespace: %v, %v", got, err)
	}
	nft, err := exec.LookPath("nft")
	if err != nil {
		t.Skip("needs the nft command")
	}
	err = netns.Do(ns, func() error {
		if out, err := exec.Command(nft, "add table ip first").CombinedOutput(); err != nil {
			t.Skipf("this kernel has no nftables: %s", out)
		}
		cmd := exec.Command(nft, "-f", "-")
		cmd.Stdin = strings.NewReader(`
table ip mine {
	chain post { type nat hook postrouting priority srcnat; oifname "eth0" masquerade; }
	chain look { type filter hook forward priority filter; }
	chain called { }
}
table inet other {
	chain pre { type nat hook prerouting priority dstnat; }
}
`)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	must(t, err)
	want := []string{"nftables chain inet other pre", "nftables chain ip mine post"}
	if got, err := netns.Translations(ns); err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
}
