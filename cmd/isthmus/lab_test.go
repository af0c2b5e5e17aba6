// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/isthmus-net/isthmus/pkg/lab"
	"github.com/isthmus-net/isthmus/pkg/netns"
	"github.com/isthmus-net/isthmus/pkg/netns/netnstest"
)

// labTime bounds one command.
const labTime = time.Minute

// topologyText is a small lab; %[1]s is its name.
const topologyText = `
name: %[1]s
vpcs:
  - name: consumer
    cidr: 10.0.0.0/16
    subnets: [{name: a, zone: use1-az1, cidr: 10.0.1.0/24}]
    instances: [{name: client, subnet: a, address: 10.0.1.10}]
  - name: provider
    cidr: 10.0.0.0/16
    subnets: [{name: a, zone: use1-az1, cidr: 10.0.1.0/24}]
    instances: [{name: server, subnet: a, address: 10.0.1.10, run: [{server: banner}]}]
load_balancers:
  - {name: nlb, vpc: provider, listeners: [{port: 25, target_group: group}]}
target_groups:
  - {name: group, health_check: {protocol: TCP}, targets: [{instance: server, port: 25}]}
services: [{name: service, load_balancers: [nlb]}]
endpoints: [{name: mail, service: service, vpc: consumer, enis: [{subnet: a, address: 10.0.1.100}]}]
`

// program is the built binary.
type program struct {
	t    *testing.T
	path string
}

// builtIn is where built has put the program; empty when no test has asked for it.
var builtIn string

// built is the program, made once for all tests.
var built = sync.OnceValues(func() (path string, err error) {
	if builtIn, err = os.MkdirTemp("", "isthmus-test-"); err != nil {
		return "", err
	}
	path = filepath.Join(builtIn, "isthmus")
	if out, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	status := m.Run()
	os.RemoveAll(builtIn)
	os.Exit(status)
}

func build(t *testing.T) program {
	t.Helper()
	netnstest.RequirePrivileged(t)
	path, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return program{t, path}
}

// run runs the program and returns what it printed and its exit status.
func (p program) run(args ...string) (output string, status int) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), labTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, p.path, args...)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		p.t.Fatalf("isthmus %s: %v", strings.Join(args, " "), err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// must is run for commands that must succeed.
func (p program) must(args ...string) string {
	p.t.Helper()
	out, status := p.run(args...)
	if status != 0 {
		p.t.Fatalf("isthmus %s: exit status %d\n%s", strings.Join(args, " "), status, out)
	}
	return out
}

// topology writes the topology file of a lab with a name of its own, which is taken away with the test.
func (p program) topology(suffix string) (name, file string) {
	p.t.Helper()
	name = "t" + strconv.Itoa(os.Getpid()) + suffix
	file = filepath.Join(p.t.TempDir(), name+".yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, topologyText, name), 0o644); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		if err := lab.Down(lab.Dir(name)); err != nil {
			p.t.Error(err)
		}
	})
	return name, file
}

// greeting connects from a lab's client to its endpoint and returns what the server says.
func greeting(t *testing.T, name string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	ns, err := netns.Open(lab.Netns(lab.Dir(name), "client"))
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	conn, err := netns.Dial(ctx, ns, "tcp4", "10.0.1.100:25")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return line
}

// mounts counts the namespaces under a path.
func mounts(t *testing.T, path string) int {
	t.Helper()
	content, err := os.ReadFile("/proc/mounts")
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Count(content, []byte(" "+path))
}

func TestLabUpExecDown(t *testing.T) {
	p := build(t)
	before, err := netns.Links(nil)
	if err != nil {
		t.Fatal(err)
	}
	one, oneFile := p.topology("-one")
	two, twoFile := p.topology("-two")

	out := p.must("lab", "up", oneFile)
	for _, want := range []string{"client", "10.0.1.10", "banner on 25", "mail", "10.0.1.100", "isthmus lab down " + one} {
		if !strings.Contains(out, want) {
			t.Errorf("lab up does not say %q:\n%s", want, out)
		}
	}
	p.must("lab", "up", "--offloads=off", twoFile)
	for _, name := range []string{one, two} {
		if line := greeting(t, name); !strings.HasPrefix(line, "220 server ") {
			t.Errorf("the server behind %s says %q", name, line)
		}
		if out := p.must("lab", "status"); !strings.Contains(out, name) {
			t.Errorf("lab status does not list %s:\n%s", name, out)
		}
	}
	if after, err := netns.Links(nil); err != nil || len(after) != len(before) {
		t.Errorf("the machine had %d links, with labs %d (%v)", len(before), len(after), err)
	}
	if out := p.must("lab", "status", one); !strings.Contains(out, "available") {
		t.Errorf("lab status does not say that the endpoint is available:\n%s", out)
	}

	p.must("lab", "down", two)
	if out, status := p.run("lab", "down", two); status == 0 || !strings.Contains(out, one) {
		t.Errorf("a lab that is gone: exit status %d\n%s", status, out)
	}
	greeting(t, one) // the other one stands
	p.must("lab", "down", one)
	for _, name := range []string{one, two} {
		if n := mounts(t, lab.Dir(name)); n != 0 {
			t.Errorf("%d namespaces of %s are left", n, name)
		}
		if _, err := os.Stat(lab.Dir(name)); err == nil {
			t.Errorf("%s is left", lab.Dir(name))
		}
	}
	p.must("lab", "up", oneFile) // works twice
	p.must("lab", "down", one)
}

func TestLabExec(t *testing.T) {
	p := build(t)
	name, file := p.topology("-exec")
	p.must("lab", "up", file)
	if out := p.must("lab", "exec", name+"/client", "--", "cat", "/etc/hosts"); !strings.Contains(out, "10.0.1.100 mail") {
		t.Errorf("the hosts file of a client lacks the endpoint:\n%s", out)
	}
	for _, c := range []struct {
		script string
		status int
	}{{"exit 0", 0}, {"exit 7", 7}, {"kill -9 $$", 128 + 9}} {
		if out, status := p.run("lab", "exec", name+"/client", "--", "sh", "-c", c.script); status != c.status || out != "" {
			t.Errorf("%s: exit status %d, want %d; printed %q", c.script, status, c.status, out)
		}
	}
	for _, c := range []struct{ where, says string }{
		{name + "/nobody", "client"}, {name, name + "/NODE"}, {"no-such-lab/client", name}, {"../" + name + "/client", "name of a lab"},
	} {
		if out, status := p.run("lab", "exec", c.where, "--", "true"); status == 0 || !strings.Contains(out, c.says) {
			t.Errorf("exec %s: exit status %d, and does not say %q:\n%s", c.where, status, c.says, out)
		}
	}
}

// rewrite changes a topology file.
func (p program) rewrite(file string, oldnew ...string) {
	p.t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(strings.NewReplacer(oldnew...).Replace(string(content))), 0o644); err != nil {
		p.t.Fatal(err)
	}
}

func TestLabDownAfterDaemonWasKilled(t *testing.T) {
	p := build(t)
	name, file := p.topology("-killed")
	p.must("lab", "up", file)
	pids := pids(t, name)
	if pids[daemonProcess] == 0 || pids["server-0"] == 0 {
		t.Fatalf("the lab runs %v; there should be a daemon and a server", pids)
	}
	if err := syscall.Kill(pids[daemonProcess], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	awaitEnd(t, pids[daemonProcess])
	if out := p.must("lab", "status", name); !strings.Contains(out, "ended") || !strings.Contains(out, "does not answer") {
		t.Errorf("lab status does not say that the daemon is dead:\n%s", out)
	}
	p.must("lab", "down", name)
	if n := mounts(t, lab.Dir(name)); n != 0 {
		t.Errorf("%d namespaces are left", n)
	}
	awaitEnd(t, pids["server-0"])
}

// awaitEnd waits until a process has ended.
func awaitEnd(t *testing.T, pid int) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return // it has
	}
	defer unix.Close(fd)
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 10_000)
	if err != nil || n == 0 {
		t.Errorf("process %d still runs (%v)", pid, err)
	}
}

func TestLabUpLeavesNothingWhenAProgramIsMissing(t *testing.T) {
	p := build(t)
	name, file := p.topology("-broken")
	// The command is no program, so that launching fails half-way.
	p.rewrite(file, "run: [{server: banner}]", "run: [{command: [/no/such/program]}]")
	if out, status := p.run("lab", "up", file); status == 0 || !strings.Contains(out, "/no/such/program") {
		t.Errorf("lab up with a program that does not exist: exit status %d\n%s", status, out)
	}
	if _, err := os.Stat(lab.Dir(name)); err == nil {
		t.Errorf("%s is left", lab.Dir(name))
	}
}

// The demo's process is ended in several ways as soon as it shows that the lab stands; its supervisor cleans up.
func TestDemoIsCleanedUp(t *testing.T) {
	p := build(t)
	for _, c := range []struct {
		name   string
		signal syscall.Signal
		child  bool
	}{
		{"Ctrl-C", syscall.SIGINT, false},
		{"terminated", syscall.SIGTERM, false},
		{"child killed", syscall.SIGKILL, true},
		{"child crashes", syscall.SIGABRT, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd := exec.Command(p.path, "lab", "demo")
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			dir := lab.Dir(demoPrefix + strconv.Itoa(cmd.Process.Pid))
			lines := bufio.NewScanner(out)
			for lines.Scan() && !strings.Contains(lines.Text(), "CHECK") {
			}
			if mounts(t, dir) == 0 {
				t.Errorf("there are no namespaces under %s", dir)
			}
			pid := cmd.Process.Pid
			if c.child {
				pid = childOf(t, pid)
			}
			if err := syscall.Kill(pid, c.signal); err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, out)
			if err := cmd.Wait(); err == nil {
				t.Error("the demo was interrupted and its exit status is 0")
			}
			if _, err := os.Stat(dir); err == nil || mounts(t, dir) != 0 {
				t.Errorf("%s is left, with %d namespaces", dir, mounts(t, dir))
			}
		})
	}
}

// childOf finds the child of a process that has one.
func childOf(t *testing.T, pid int) int {
	t.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		content, _ := os.ReadFile(task)
		if child, err := strconv.Atoi(strings.TrimSpace(string(content))); err == nil {
			return child
		}
	}
	t.Fatalf("process %d has no child", pid)
	return 0
}
