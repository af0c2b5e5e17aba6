// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-net/isthmus/cmd/isthmus/appliance"
	"github.com/isthmus-net/isthmus/pkg/lab"
	"github.com/isthmus-net/isthmus/pkg/netns"
)

// gatewayLab builds the lab of examples/gwlb-two-vpcs.yaml under a name of its own.
func (p program) gatewayLab() (dir, file, said string) {
	p.t.Helper()
	content, err := os.ReadFile("../../examples/gwlb-two-vpcs.yaml")
	if err != nil {
		p.t.Fatal(err)
	}
	name := "t" + strconv.Itoa(os.Getpid()) + "-gwlb"
	file = filepath.Join(p.t.TempDir(), name+".yaml")
	text := strings.Replace(string(content), "\nname: gwlb-two-vpcs\n", "\nname: "+name+"\n", 1)
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		if err := lab.Down(lab.Dir(name)); err != nil {
			p.t.Error(err)
		}
	})
	return lab.Dir(name), file, p.must("lab", "up", file)
}

// get makes an HTTP request from a node of a lab and decodes the answer. local is the address that the node had.
func get(t *testing.T, dir, node, to, path string, answer any) (local netip.AddrPort, err error) {
	t.Helper()
	ns, err := netns.Open(lab.Netns(dir, node))
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	conn, err := netns.Dial(ctx, ns, "tcp", to)
	if err != nil {
		return local, err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	request, err := http.NewRequest(http.MethodGet, "http://"+to+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := request.Write(conn); err != nil {
		return local, err
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), request)
	if err != nil {
		return local, err
	}
	defer response.Body.Close()
	return netip.MustParseAddrPort(conn.LocalAddr().String()), json.NewDecoder(response.Body).Decode(answer)
}

// inspections lists the appliances of the lab that have seen both directions of a flow.
func inspections(t *testing.T, dir string, client, server netip.AddrPort) (seen []string) {
	t.Helper()
	for fw, at := range map[string]string{"fw-1": "10.0.1.4:80", "fw-2": "10.0.1.5:80"} {
		var counted []appliance.FlowStats
		if _, err := get(t, dir, fw, at, "/flows", &counted); err != nil {
			t.Fatalf("counters of %s: %v", fw, err)
		}
		for _, f := range counted {
			if f.Source == client && f.Destination == server && f.Forth.Out.Packets > 0 && f.Back.Out.Packets > 0 {
				seen = append(seen, fw)
			}
		}
	}
	return seen
}

func TestLabGateway(t *testing.T) {
	p := build(t)
	before, err := netns.Links(nil)
	if err != nil {
		t.Fatal(err)
	}
	dir, file, said := p.gatewayLab()
	for _, want := range []string{"appliance (tun), drops tcp dst port 23", "all, as a next hop", "what enters from the internet", "curl http://site-a/"} {
		if !strings.Contains(said, want) {
			t.Errorf("lab up does not say %q:\n%s", want, said)
		}
	}
	inspectors := map[string]bool{}
	for _, c := range []struct{ from, to, instance string }{
		{"app-a", "203.0.113.10:80", "site-a"}, {"app-b", "203.0.113.10:80", "site-b"},
		{"site-a", "10.0.1.10:80", "app-a"}, {"site-b", "10.0.1.10:80", "app-b"},
		{"app-a", "[2001:db8:ff::a]:80", "site-a"}, {"site-a", "[2001:db8:a:1::a]:80", "app-a"},
	} {
		for range 5 {
			var answer lab.Answer
			client, err := get(t, dir, c.from, c.to, "/", &answer)
			if err != nil {
				t.Fatalf("%s to %s: %v", c.from, c.to, err)
			}
			if answer.Instance != c.instance || answer.Remote != client.String() {
				t.Errorf("%s at %s reached %s, which saw %s", c.from, client, answer.Instance, answer.Remote)
			}
			seen := inspections(t, dir, client, netip.MustParseAddrPort(c.to))
			if len(seen) != 1 {
				t.Fatalf("the flow from %s at %s to %s was inspected by %v, want one appliance", c.from, client, c.to, seen)
			}
			inspectors[seen[0]] = true
		}
	}
	if len(inspectors) != 2 {
		t.Errorf("30 flows were inspected by %v alone", inspectors)
	}
	var nothing any
	if _, err := get(t, dir, "app-a", "203.0.113.10:23", "/", &nothing); err == nil {
		t.Error("appliances drop port 23, yet it answered")
	}
	// What should be inspected takes no other way when nobody is there to do it.
	if err := lab.Stop(dir, daemonProcess); err != nil {
		t.Fatal(err)
	}
	if _, err := get(t, dir, "app-a", "203.0.113.10:80", "/", &nothing); err == nil {
		t.Error("without the daemon the internet was reached, uninspected")
	}
	// With the daemon the routes are back.
	p.must("lab", "up", file)
	var answer lab.Answer
	client, err := get(t, dir, "app-a", "203.0.113.10:80", "/", &answer)
	if err != nil {
		t.Fatalf("with another daemon: %v", err)
	}
	if seen := inspections(t, dir, client, netip.MustParseAddrPort("203.0.113.10:80")); len(seen) != 1 {
		t.Errorf("with another daemon the flow was inspected by %v, want one appliance", seen)
	}
	p.must("lab", "down", filepath.Base(dir))
	if n := mounts(t, dir); n != 0 {
		t.Errorf("%d namespaces are left", n)
	}
	if after, err := netns.Links(nil); err != nil || len(after) != len(before) {
		t.Errorf("the machine had %d links, now %d (%v)", len(before), len(after), err)
	}
}
