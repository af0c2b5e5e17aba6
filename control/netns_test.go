// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/isthmus-net/isthmus/dataplane"
	"github.com/isthmus-net/isthmus/pkg/netns"
	"github.com/isthmus-net/isthmus/pkg/netns/netnstest"
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// space makes a namespace at a path until the test ends.
func space(t *testing.T, path string) *netns.NS {
	t.Helper()
	ns, err := netns.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ns.Close()
		if err := netns.Remove(path); err != nil {
			t.Error(err)
		}
	})
	if err := netns.Prepare(ns); err != nil {
		t.Fatal(err)
	}
	return ns
}

// tunState is a consumer and a provider on a TUN each, with the same addresses: a client at 10.0.1.10 that knows an
// endpoint at 10.0.1.5, and a server at 10.0.1.10:8080 behind a node at 10.0.1.20.
func tunState(consumer, provider string) *vpc.State {
	cidrs := []netip.Prefix{prefix("10.0.0.0/16")}
	tun := func(id, path string) vpc.Port {
		return vpc.Port{ID: id, VPC: "vpc-" + id, Kind: vpc.TUN, Netns: path, Device: "isthmus0", Addresses: []netip.Prefix{prefix("10.0.1.10/24")}}
	}
	return &vpc.State{
		VPCs:  []vpc.VPC{{ID: "vpc-consumer", CIDRs: cidrs}, {ID: "vpc-provider", CIDRs: cidrs}},
		Ports: []vpc.Port{tun("consumer", consumer), tun("provider", provider)},
		LoadBalancers: []vpc.LoadBalancer{{
			ID: "nlb", VPC: "vpc-provider",
			Nodes:     []vpc.ENI{{Address: addr("10.0.1.20"), Zone: "az1", Ports: []string{"provider"}}},
			Listeners: []vpc.Listener{{Port: 80, TargetGroup: "web", IdleTimeout: 350 * time.Second}},
		}},
		TargetGroups: []vpc.TargetGroup{{
			ID: "web", VPC: "vpc-provider", TerminateOnUnhealthy: true,
			HealthCheck: vpc.HealthCheck{
				Protocol: vpc.CheckHTTP, Path: "/health", Interval: 5 * time.Second, Timeout: 2 * time.Second,
				HealthyThreshold: 2, UnhealthyThreshold: 2, MatchLow: 200, MatchHigh: 299,
			},
			Targets: []vpc.Target{{Address: addr("10.0.1.10"), Port: 8080, Zone: "az1"}},
		}},
		Services: []vpc.EndpointService{{ID: "vpce-svc-web", LoadBalancers: []string{"nlb"}}},
		Endpoints: []vpc.Endpoint{{
			ID: "vpce-0123456789abcdef0", Service: "vpce-svc-web", VPC: "vpc-consumer",
			ENIs: []vpc.ENI{{Address: addr("10.0.1.5"), Zone: "az1", Ports: []string{"consumer"}}},
		}},
		Testing: &vpc.Testing{HealthInterval: 100 * time.Millisecond},
	}
}

// get asks the endpoint from a consumer's namespace and returns what the server says.
func get(t *testing.T, ns *netns.NS) (string, error) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	dialer := netns.Dialer{NS: ns}
	client := http.Client{Transport: &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://10.0.1.5/", nil)
	if err != nil {
		return "", err
	}
	r, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	return string(body), err
}

// TestThroughTheKernel runs the daemon as it is run: real devices in real namespaces, a real server and client.
func TestThroughTheKernel(t *testing.T) {
	netnstest.RequirePrivileged(t)
	dir := t.TempDir()
	consumerPath, providerPath := filepath.Join(dir, "consumer"), filepath.Join(dir, "provider")
	consumer := space(t, consumerPath)
	provider := space(t, providerPath)
	listener, err := netns.Listen(provider, "tcp4", ":8080")
	if err != nil {
		t.Fatal(err)
	}
	checks := make(chan string, 1)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		source := netip.MustParseAddrPort(r.RemoteAddr).Addr()
		if r.URL.Path == "/health" {
			select {
			case checks <- fmt.Sprintf("%s from %s", r.Host, source):
			default:
			}
			return
		}
		fmt.Fprintf(w, "hello %s", source)
	})}
	go server.Serve(listener)
	defer server.Close()

	d, err := New(Options{Workers: 2, MaxFlows: 10000, Socket: filepath.Join(dir, "d.sock"), Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // after the daemon has ended
		if _, err := netns.LinkByName(consumer, "isthmus0"); err == nil {
			t.Error("the daemon left its device behind")
		}
	})
	go func() {
		if err := d.Apply(t.Context(), tunState(consumerPath, providerPath)); err != nil {
			t.Errorf("applying the state: %v", err)
		}
	}()
	start(t, d)
	if body, err := get(t, consumer); err != nil || body != "hello 10.0.1.20" {
		t.Fatalf("through the endpoint came %q, error %v", body, err)
	}
	if got := <-checks; got != "10.0.1.20:80 from 10.0.1.20" {
		t.Errorf("the server saw a check for %s", got)
	}
	healthy := func(want dataplane.Health) func() bool {
		return func() bool {
			targets := d.Stats().Targets
			return len(targets) == 1 && targets[0].Health == want
		}
	}
	eventually(t, "the target is healthy", healthy(dataplane.Healthy))
	listener.Close()
	eventually(t, "the target without a server is unhealthy", healthy(dataplane.Unhealthy))
	id := dataplane.TargetID{Group: "web", Address: netip.MustParseAddrPort("10.0.1.10:8080")}
	if got := d.health.problem(id); got != "connection refused" {
		t.Errorf("the problem is %q", got)
	}
}

// TestNamespaceGoes takes a namespace away and brings it back, under the same path.
func TestNamespaceGoes(t *testing.T) {
	netnstest.RequirePrivileged(t)
	dir := t.TempDir()
	consumerPath, providerPath := filepath.Join(dir, "consumer"), filepath.Join(dir, "provider")
	consumer := space(t, consumerPath)
	space(t, providerPath)
	d, err := New(Options{MaxFlows: 1000})
	if err != nil {
		t.Fatal(err)
	}
	go d.Apply(t.Context(), tunState(consumerPath, providerPath))
	start(t, d)
	open := func() bool { return d.reconcile.report.Load().ports[0].open }
	if !open() {
		t.Fatalf("the port is not open: %s", d.reconcile.report.Load().ports[0].problem)
	}
	began := time.Now()
	if err := netns.Remove(consumerPath); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the port is closed", func() bool { return !open() })
	if took := time.Since(began); took > time.Second {
		t.Errorf("closing took %v, more than a second", took)
	}
	links, err := netns.Links(consumer)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if l.Name == "isthmus0" {
			t.Error("the device is still in the namespace that went")
		}
	}
	again, err := netns.Create(consumerPath) // removed by the first one's cleanup
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	eventually(t, "the port is open again", open)
	if _, err := netns.LinkByName(again, "isthmus0"); err != nil {
		t.Errorf("the device is not in the new namespace: %v", err)
	}
	// A device that somebody deletes comes back, too.
	if err := netns.Delete(again, "isthmus0"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the device is back", func() bool {
		_, err := netns.LinkByName(again, "isthmus0")
		return err == nil && open()
	})
}
