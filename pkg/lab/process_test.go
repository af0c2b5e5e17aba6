// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-net/isthmus/pkg/netns"
	"github.com/isthmus-net/isthmus/pkg/netns/netnstest"
)

// running says whether a process runs.
func running(pid int) bool {
	_, err := readProc(pid)
	return err == nil
}

func status(t *testing.T, dir, name string) ProcessStatus {
	t.Helper()
	list, err := Status(dir)
	must(t, err)
	for _, s := range list {
		if s.Name == name {
			return s
		}
	}
	t.Fatalf("there is no process %s in %+v", name, list)
	return ProcessStatus{}
}

func TestLaunchAndStop(t *testing.T) {
	_, dir := up(t, "../../examples/two-vpcs.yaml")
	sleeper := Process{Name: "sleeper", Node: "server", Argv: []string{"sleep", "1000"}}
	must(t, Launch(dir, sleeper))
	if err := Launch(dir, sleeper); !errors.Is(err, os.ErrExist) {
		t.Errorf("second process of the name: %v", err)
	}
	must(t, Launch(dir, Process{Name: "daemon", Argv: []string{"sleep", "1000"}}))
	missing := Process{Name: "missing", Node: "server", Argv: []string{"/no/such/program"}}
	if err := Launch(dir, missing); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("program that does not exist: %v", err)
	}

	pid := status(t, dir, "sleeper").PID
	id, err := netns.Lookup("/proc/" + strconv.Itoa(pid) + "/ns/net")
	must(t, err)
	if id != space(t, dir, "server").ID() {
		t.Error("the process is not in its node")
	}
	home, err := netns.Lookup("/proc/" + strconv.Itoa(status(t, dir, "daemon").PID) + "/ns/net")
	must(t, err)
	if own, err := netns.Lookup("/proc/self/ns/net"); err != nil || home != own {
		t.Errorf("the process without a node is in %v, want %v (%v)", home, own, err)
	}
	must(t, Stop(dir, "sleeper"))
	if running(pid) {
		t.Error("the process runs after Stop")
	}
	if err := Stop(dir, "sleeper"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("second Stop: %v", err)
	}
	must(t, Launch(dir, sleeper))
}

// TestDownEndsFamilies launches processes that will not end when asked, that have children, and that have lost their
// parent; gone checks the rest.
func TestDownEndsFamilies(t *testing.T) {
	_, dir := up(t, "../../examples/two-vpcs.yaml")
	pids := filepath.Join(t.TempDir(), "pids")
	scripts := map[string]string{
		"parent": "sleep 1000 & echo $! >>" + pids + "; wait",
		"orphan": "env -i sleep 1000 & echo $! >>" + pids + "; exec true",
	}
	for name, script := range scripts {
		must(t, Launch(dir, Process{Name: name, Node: "server", Argv: []string{"sh", "-c", script}}))
	}
	children := waitForLines(t, pids, len(scripts))
	must(t, Down(dir))
	for _, child := range children {
		if running(child) {
			t.Errorf("process %d runs after Down", child)
		}
	}
}

// TestDownSparesOthers gives Down the records of processes that are not the lab's.
func TestDownSparesOthers(t *testing.T) {
	netnstest.RequirePrivileged(t)
	_, dir := up(t, "../../examples/two-vpcs.yaml")
	stranger := exec.Command("sleep", "1000")
	must(t, stranger.Start())
	t.Cleanup(func() {
		stranger.Process.Kill()
		stranger.Wait()
	})
	found, err := readProc(stranger.Process.Pid)
	must(t, err)
	for _, r := range []record{
		{Process: Process{Name: "later"}, Token: "A", PID: found.pid, Start: found.start - 1, Boot: bootID()},
		{Process: Process{Name: "other-boot"}, Token: "B", PID: found.pid, Start: found.start, Boot: "before"},
		{Process: Process{Name: "session"}, Token: "C", PID: found.session},
	} {
		must(t, r.write(dir))
	}
	must(t, os.WriteFile(recordFile(dir, "cut-short"), []byte(`{"Name": "cut`), 0o644))
	must(t, Down(dir))
	if !running(found.pid) {
		t.Error("Down has ended a process that is not the lab's")
	}
}

// TestDownFindsUnrecorded simulates a crash between the start of a process and the note of its number.
func TestDownFindsUnrecorded(t *testing.T) {
	_, dir := up(t, "../../examples/two-vpcs.yaml")
	r := record{Process: Process{Name: "fresh"}, Token: "TestDownFindsUnrecorded"}
	must(t, r.write(dir))
	cmd := exec.Command("sleep", "1000")
	cmd.Env = append(os.Environ(), tokenVariable+"="+r.Token)
	must(t, Start(cmd, dir, "server"))
	must(t, Down(dir))
	if err := cmd.Wait(); err == nil {
		t.Error("the process came to its own end")
	}
	if signal := cmd.ProcessState.Sys().(syscall.WaitStatus).Signal(); signal != syscall.SIGTERM {
		t.Errorf("the process ended by %v", signal)
	}
}

// TestDownAfterKill kills Up when so many nodes are there, and cleans up.
func TestDownAfterKill(t *testing.T) {
	netnstest.RequirePrivileged(t)
	for nodes := range 8 {
		dir := filepath.Join(t.TempDir(), "two-zones")
		gone(t, dir)
		cmd := exec.Command(os.Args[0], "up", "../../examples/two-zones.yaml", dir)
		must(t, cmd.Start())
		waitFor(t, "nodes", func() bool {
			found, _ := filepath.Glob(Netns(dir, "*"))
			return len(found) >= nodes
		})
		must(t, cmd.Process.Kill())
		cmd.Wait()
		if _, err := os.Stat(dir); nodes > 0 && err != nil {
			t.Fatalf("Up left nothing to clean up: %v", err)
		}
	}
}

// TestDownOfParts lets Down meet what each step of Up leaves.
func TestDownOfParts(t *testing.T) {
	netnstest.RequirePrivileged(t)
	parts := []struct {
		name string
		make func(dir string) error
	}{
		{"nothing", func(string) error { return nil }},
		{"directory", func(dir string) error { return os.Mkdir(dir, 0o755) }},
		{"lock", func(dir string) error { return os.WriteFile(lockFile(dir), nil, 0o644) }},
		{"half a topology", func(dir string) error { return os.WriteFile(topologyFile(dir), []byte("name: x\nv"), 0o644) }},
		{"namespaces", func(dir string) error { return os.Mkdir(filepath.Join(dir, "netns"), 0o755) }},
		{"file without a mount", func(dir string) error { return os.WriteFile(Netns(dir, "v"), nil, 0o444) }},
		{"node", func(dir string) error {
			ns, err := netns.Create(Netns(dir, "i"))
			ns.Close()
			return err
		}},
	}
	for last := range parts {
		t.Run(parts[last].name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "x")
			gone(t, dir)
			for _, part := range parts[:last+1] {
				must(t, part.make(dir))
			}
		})
	}
}

// waitForLines waits until a file has n lines, each of them a number.
func waitForLines(t *testing.T, file string, n int) (numbers []int) {
	t.Helper()
	waitFor(t, "lines in "+file, func() bool {
		content, _ := os.ReadFile(file)
		return strings.Count(string(content), "\n") >= n
	})
	content, err := os.ReadFile(file)
	must(t, err)
	for _, line := range strings.Fields(string(content)) {
		number, err := strconv.Atoi(line)
		must(t, err)
		numbers = append(numbers, number)
	}
	return numbers
}

// waitFor waits for a condition that another process brings about.
func waitFor(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no %s within 20 s", what)
		}
	}
}
