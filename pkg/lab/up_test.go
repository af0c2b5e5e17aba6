// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-net/isthmus/pkg/netns"
	"github.com/isthmus-net/isthmus/pkg/netns/netnstest"
)

// TestMain makes the test binary serve as the program that a lab runs: "serve FLAGS", and "up FILE DIR" to be killed.
func TestMain(m *testing.M) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	var err error
	switch args := os.Args[1:]; {
	case len(args) > 0 && args[0] == "serve":
		err = ServeInherited(ctx, args[1:])
	case len(args) == 3 && args[0] == "up":
		var t *Topology
		if t, err = Load(args[1]); err == nil {
			err = Up(ctx, t, args[2])
		}
	default:
		stop()
		os.Exit(m.Run())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// up builds a lab for a test, in a directory of its own, and checks at the end that nothing remains of it.
func up(t *testing.T, file string) (topology *Topology, dir string) {
	t.Helper()
	netnstest.RequirePrivileged(t)
	topology, err := Load(file)
	must(t, err)
	dir = filepath.Join(t.TempDir(), topology.Name)
	gone(t, dir)
	must(t, Up(context.Background(), topology, dir))
	return topology, dir
}

// gone checks when the test ends that Down leaves nothing: no mount, no file, no process, no link outside.
func gone(t *testing.T, dir string) {
	t.Helper()
	before := hostLinks(t)
	t.Cleanup(func() {
		list, err := records(dir)
		if err != nil {
			t.Error(err)
		}
		for range 2 {
			if err := Down(dir); err != nil {
				t.Errorf("Down: %v", err)
			}
		}
		if mounts, err := os.ReadFile("/proc/self/mountinfo"); err != nil || strings.Contains(string(mounts), dir) {
			t.Errorf("mounts of the lab remain (%v)", err)
		}
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the directory remains: %v", err)
		}
		if left, err := owned(dir, list); err != nil || len(left) > 0 {
			t.Errorf("processes %v remain (%v)", left, err)
		}
		if after := hostLinks(t); !slices.Equal(before, after) {
			t.Errorf("links of the host were %v, are %v", before, after)
		}
	})
}

func hostLinks(t *testing.T) (names []string) {
	t.Helper()
	links, err := netns.Links(nil)
	must(t, err)
	for _, l := range links {
		names = append(names, l.Name)
	}
	slices.Sort(names)
	return names
}

// space opens the namespace of a node for the time of the test.
func space(t *testing.T, dir, node string) *netns.NS {
	t.Helper()
	ns, err := netns.Open(Netns(dir, node))
	must(t, err)
	t.Cleanup(func() { ns.Close() })
	return ns
}

// ask gets an Answer over one connection from node to address, through the PROXY protocol header if there is one.
func ask(t *testing.T, dir, node, address string, header []byte) Answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	conn, err := netns.Dial(ctx, space(t, dir, node), "tcp", address)
	must(t, err)
	defer conn.Close()
	must(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
	response, err := get(t, conn, header, request(t, "GET", "/", nil))
	must(t, err)
	var answer Answer
	must(t, json.NewDecoder(response.Body).Decode(&answer))
	return answer
}

func launchAll(t *testing.T, topology *Topology, dir string) {
	t.Helper()
	for _, p := range topology.Processes(os.Args[0], "serve") {
		must(t, Launch(dir, p))
	}
}

func TestLabCarriesTraffic(t *testing.T) {
	topology, dir := up(t, "../../examples/two-zones.yaml")
	launchAll(t, topology, dir)
	address := map[string]netip.Addr{}
	for _, v := range topology.VPCs {
		for _, in := range v.Instances {
			address[in.Name] = in.Address
		}
	}
	for _, c := range []struct{ from, to string }{
		{"web1", "web2"},     // one subnet
		{"web1", "web3"},     // across the router, and the zones
		{"web3", "web1"},     // and back
		{"provider", "web2"}, // from the router itself
	} {
		got := ask(t, dir, c.from, address[c.to].String()+":80", header)
		if got.Instance != c.to || got.Proxy == nil || got.Proxy.EndpointID != "vpce-0123456789abcdef0" {
			t.Errorf("%s to %s: %+v", c.from, c.to, got)
		}
		if host, _, _ := net.SplitHostPort(got.Remote); c.from != "provider" && host != address[c.from].String() {
			t.Errorf("%s to %s: source %s, want %s untranslated", c.from, c.to, got.Remote, address[c.from])
		}
	}
}

// TestLabOverlaps gives one address to a server in each of two VPCs: everybody reaches the one of their own.
func TestLabOverlaps(t *testing.T) {
	_, dir := up(t, "../../examples/two-zones.yaml")
	for _, owner := range []string{"alice", "bob"} {
		listener, err := netns.Listen(space(t, dir, owner), "tcp4", "10.0.1.10:80")
		must(t, err)
		ctx, cancel := context.WithCancel(context.Background())
		t.Cleanup(cancel)
		go Serve(ctx, listener, ServerOptions{Kind: HTTP, Instance: owner})
	}
	for from, want := range map[string]string{"carol": "alice", "consumer-one": "alice", "consumer-two": "bob"} {
		if got := ask(t, dir, from, "10.0.1.10:80", nil); got.Instance != want {
			t.Errorf("from %s the answer is %s's, want %s's", from, got.Instance, want)
		}
	}
}

func TestLabLinks(t *testing.T) {
	topology, dir := up(t, "../../examples/mtu.yaml")
	for _, v := range topology.VPCs {
		router := space(t, dir, v.Name)
		bridge, err := netns.LinkByName(router, "br-a")
		must(t, err)
		if bridge.MTU != DefaultMTU || bridge.Alias != "isthmus:lab:mtu:subnet:"+v.Name+":a" {
			t.Errorf("bridge of %s is %+v", v.Name, bridge)
		}
		for _, in := range v.Instances {
			inside, err := netns.LinkByName(space(t, dir, in.Name), nic)
			must(t, err)
			outside, err := netns.LinkByName(router, device("i-", in.Name))
			must(t, err)
			if inside.MTU != in.MTU || outside.MTU != in.MTU || outside.Master != bridge.Index {
				t.Errorf("%s: MTU %d inside, %d outside, want %d", in.Name, inside.MTU, outside.MTU, in.MTU)
			}
			if want := "isthmus:lab:mtu:instance:" + v.Name + ":" + in.Name; inside.Alias != want || outside.Alias != want {
				t.Errorf("%s: aliases %q and %q, want %q", in.Name, inside.Alias, outside.Alias, want)
			}
		}
	}
}

func TestExec(t *testing.T) {
	_, dir := up(t, "../../examples/two-vpcs.yaml")
	run := func(node string, argv ...string) (string, error) {
		cmd := exec.Command(argv[0], argv[1:]...)
		var out strings.Builder
		cmd.Stdout, cmd.Stderr = &out, &out
		err := Exec(cmd, dir, node)
		return out.String(), err
	}
	hosts, err := run("client", "cat", "/etc/hosts")
	must(t, err)
	if !strings.Contains(hosts, "10.0.1.4 client\n") || !strings.Contains(hosts, "10.0.1.5 web ") {
		t.Errorf("/etc/hosts of client is\n%s", hosts)
	}
	if outside, err := os.ReadFile("/etc/hosts"); err != nil || string(outside) == hosts {
		t.Errorf("the host's own /etc/hosts changed (%v)", err)
	}
	links, err := run("client", "ls", "/sys/class/net")
	must(t, err)
	if names := strings.Fields(links); !slices.Contains(names, nic) || slices.Contains(names, "br-a") {
		t.Errorf("/sys/class/net of client has %v", names)
	}
	var exit *exec.ExitError
	if _, err := run("client", "sh", "-c", "exit 7"); !errors.As(err, &exit) || exit.ExitCode() != 7 {
		t.Errorf("exit status 7 is %v", err)
	}
	if _, err := run("nobody", "true"); err == nil || !strings.Contains(err.Error(), "client, consumer, provider, server") {
		t.Errorf("unknown node: %v, want the names of those there are", err)
	}
	if err := Exec(exec.Command("/no/such/program"), dir, "client"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("unknown program: %v", err)
	}
	if err := Exec(exec.Command("true"), dir+"x", "client"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("unknown lab: %v", err)
	}
}

// TestTwoLabs builds two side by side and takes one away.
func TestTwoLabs(t *testing.T) {
	first, firstDir := up(t, "../../examples/two-vpcs.yaml")
	root := filepath.Dir(firstDir)
	second := parse(t, minimal)
	secondDir := filepath.Join(root, second.Name)
	gone(t, secondDir)
	must(t, Up(context.Background(), second, secondDir))
	must(t, os.Mkdir(filepath.Join(root, "a-crash"), 0o755))

	list, err := List(root)
	must(t, err)
	var names []string
	for _, info := range list {
		names = append(names, info.Name+" "+strconv.FormatBool(info.Topology != nil))
	}
	if want := []string{"a-crash false", "two-vpcs true", "x true"}; !slices.Equal(names, want) {
		t.Errorf("List: %v, want %v", names, want)
	}
	if err := Up(context.Background(), first, firstDir); !errors.Is(err, os.ErrExist) {
		t.Errorf("Up of a lab that is up: %v", err)
	}
	must(t, Down(firstDir))
	if _, err := Open(firstDir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Open of a lab that is down: %v", err)
	}
	space(t, secondDir, "i")
}

func TestUpFailsCleanly(t *testing.T) {
	netnstest.RequirePrivileged(t)
	dir := filepath.Join(t.TempDir(), "x")
	gone(t, dir)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := Up(ctx, parse(t, minimal), dir); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("something was left: %v", err)
	}
}

func TestDownRefusesOtherDirectories(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "precious")
	must(t, os.WriteFile(file, nil, 0o644))
	if err := Down(dir); err == nil {
		t.Error("Down of a directory that is no lab's succeeds")
	}
	if _, err := os.Stat(file); err != nil {
		t.Error(err)
	}
}

func TestListenersAreReadyAtOnce(t *testing.T) {
	topology := parse(t, strings.Replace(minimal, "subnet: a}", "subnet: a, run: [{server: banner}]}", 1))
	netnstest.RequirePrivileged(t)
	dir := filepath.Join(t.TempDir(), topology.Name)
	gone(t, dir)
	must(t, Up(context.Background(), topology, dir))
	launchAll(t, topology, dir)
	conn, err := netns.Dial(context.Background(), space(t, dir, "v"), "tcp", "10.0.1.4:25")
	must(t, err)
	defer conn.Close()
	must(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
	if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || !strings.HasPrefix(line, "220 i remote=10.0.1.1:") {
		t.Errorf("banner %q (%v)", line, err)
	}
}
