// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/isthmus-net/isthmus/control/store"
	"github.com/isthmus-net/isthmus/pkg/netns/netnstest"
)

func TestParse(t *testing.T) {
	f := Finding{Severity: Warning, Check: "ports", Where: "p", Fault: "it is a; b", Mend: "command; another"}
	if got := Parse(Warning, "ports", "p", f.String()); got != f {
		t.Errorf("got %+v, want %+v", got, f)
	}
	if got := Parse(Fault, "c", "w", "words"); got.Fault != "words" || got.Mend != "" {
		t.Errorf("got %+v", got)
	}
}

// place makes a file below a directory that stands for the kernel's.
func place(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// expect compares the findings with fragments of what is wanted, one each, and asks for a command with each.
func expect(t *testing.T, found []Finding, want ...string) {
	t.Helper()
	for _, fragment := range want {
		if !slices.ContainsFunc(found, func(f Finding) bool { return strings.Contains(f.Check+": "+f.String(), fragment) }) {
			t.Errorf("nothing was found about %q", fragment)
		}
	}
	if len(found) != len(want) {
		t.Errorf("%d things were found, want %d:", len(found), len(want))
		for _, f := range found {
			t.Log(f.Check+": ", f)
		}
	}
	for _, f := range found {
		if f.Mend == "" || f.Severity == "" || f.Check == "" {
			t.Errorf("%+v says not all", f)
		}
	}
}

// kernelOf is a /proc and a /sys of a root with capabilities, a limit of descriptors and a clock.
func kernelOf(t *testing.T, capabilities uint64, files int, clock, others string) Options {
	t.Helper()
	o := Options{TUN: "/dev/null", Proc: filepath.Join(t.TempDir(), "proc"), Sys: filepath.Join(t.TempDir(), "sys")}
	place(t, filepath.Join(o.Proc, "self/status"), fmt.Sprintf("Name:\tx\nCapEff:\t%016x\nCapBnd:\t0\n", capabilities))
	place(t, filepath.Join(o.Proc, "self/limits"), fmt.Sprintf("Limit  Soft  Hard\nMax open files            1024                 %d               files     \n", files))
	place(t, filepath.Join(o.Sys, "devices/system/clocksource/clocksource0/current_clocksource"), clock+"\n")
	place(t, filepath.Join(o.Sys, "devices/system/clocksource/clocksource0/available_clocksource"), others+"\n")
	return o
}

// TestBrokenMachine shows a root to whom all of the kernel's manners are wrong.
func TestBrokenMachine(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("what root lacks is a fault, what others lack is not; run as root")
	}
	o := kernelOf(t, 1<<unix.CAP_NET_ADMIN, 512, "hpet", "hpet acpi_pm tsc")
	o.TUN = filepath.Join(t.TempDir(), "net/tun")
	report, _ := Examine(o)
	expect(t, report.Findings, "tun: "+o.TUN+" is missing", "root lacks CAP_SYS_ADMIN", "may have 512 descriptors", "takes the time from hpet")
	expect(t, report.Findings[3:], "echo tsc > "+o.Sys)
	if len(report.Limits) > 0 {
		t.Errorf("not looked at: %v", report.Limits)
	}

	o = kernelOf(t, 0, 1<<20, "acpi_pm", "acpi_pm")
	report, _ = Examine(o)
	expect(t, report.Findings, "root lacks CAP_NET_ADMIN and CAP_SYS_ADMIN", "tsc=reliable")
	o.Proc, o.Sys = o.Proc+"x", o.Sys+"x"
	report, _ = Examine(o)
	if expect(t, report.Findings); len(report.Limits) != 3 {
		t.Errorf("without /proc and /sys not looked at: %v", report.Limits)
	}
}

// TestHealthyMachine finds nothing where the other tests can run, but what the machine may lack all the same.
func TestHealthyMachine(t *testing.T) {
	netnstest.RequirePrivileged(t)
	report, daemon := Examine(Options{Store: filepath.Join(t.TempDir(), "store.db")})
	if daemon || len(report.Limits) > 0 {
		t.Errorf("a daemon: %v; not looked at: %v", daemon, report.Limits)
	}
	for _, check := range []string{"tun", "privileges", "namespaces", "offloads", "queues", "steering", "descriptors", "inotify", "clock", "space"} {
		if !slices.Contains(report.Checked, check) {
			t.Errorf("not checked: %s", check)
		}
	}
	found := slices.DeleteFunc(report.Findings, func(f Finding) bool { return f.Severity == Warning })
	expect(t, found)
}

func TestSocket(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "d.sock")
	look := func(expected bool) *examination {
		e := &examination{Options: Options{Socket: path, Expected: expected, Proc: "/proc"}}
		listens := e.socket()
		if want := len(e.Findings) == 0 && len(e.Notes) == 0; listens != want {
			t.Errorf("a daemon listens: %v, but %v and %v", listens, e.Findings, e.Notes)
		}
		return e
	}
	if e := look(false); len(e.Findings) > 0 || len(e.Notes) != 1 {
		t.Errorf("without a daemon: %v and %v", e.Findings, e.Notes)
	}
	expect(t, look(true).Findings, "there is no socket")
	place(t, path, "")
	expect(t, look(false).Findings, "is not a socket")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	l.SetUnlinkOnClose(false)
	e := look(true)
	if expect(t, e.Findings); !slices.Contains(e.Checked, "descriptors") {
		t.Error("the daemon's descriptors were not looked at")
	}
	for _, change := range []string{path, dir} {
		if err := os.Chmod(change, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	e = &examination{Options: Options{Socket: path, Proc: "/proc"}}
	if !e.socket() {
		t.Error("the daemon is not seen")
	}
	expect(t, e.Findings, "everybody on this machine may connect", "may put another socket in place")
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o660); err != nil {
		t.Fatal(err)
	}
	l.Close()
	expect(t, look(false).Findings, "nobody listens on "+path)
}

func TestStore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	look := func() []Finding {
		t.Helper()
		before, _ := os.ReadFile(path)
		e := &examination{Options: Options{Store: path}}
		if e.store(); len(e.Limits) > 0 {
			t.Errorf("not looked at: %v", e.Limits)
		}
		if after, _ := os.ReadFile(path); string(before) != string(after) {
			t.Error("the store was changed")
		}
		return e.Findings
	}
	expect(t, look())
	s, err := store.Open(path, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	expect(t, look()) // while it is held
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	expect(t, look())
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	expect(t, look(), "chmod 600 "+path)
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 5000); err != nil {
		t.Fatal(err)
	}
	expect(t, look(), "the store is damaged")
	e := &examination{Options: Options{Store: path}}
	e.judge(fmt.Errorf("open: %w", &store.VersionError{Path: path, File: 9, Program: 1}))
	e.judge(fmt.Errorf("open: %w", store.ErrForeign))
	expect(t, e.Findings, "has format version 9", "is a database of another program")
}

// TestWithoutRoot runs this test again as a user who may nothing.
func TestWithoutRoot(t *testing.T) {
	if os.Geteuid() == 0 {
		asNobody(t)
		return
	}
	report, _ := Examine(Options{Store: "/root/no/store.db", Netns: []string{"/proc/self/ns/net"}})
	expect(t, slices.DeleteFunc(report.Findings, func(f Finding) bool { return f.Severity == Warning }))
	var seen []string
	for _, l := range report.Limits {
		seen = append(seen, l.Check)
		if !strings.Contains(l.Why, "run as root") {
			t.Errorf("%s does not say what to do: %s", l.Check, l.Why)
		}
	}
	for _, want := range []string{"privileges", "namespace"} {
		if !slices.Contains(seen, want) {
			t.Errorf("%s is not said to be out of reach: %v", want, report.Limits)
		}
	}
	if !slices.Contains(report.Checked, "clock") || !slices.Contains(report.Checked, "inotify") {
		t.Errorf("checked was only %v", report.Checked)
	}
}

func asNobody(t *testing.T) {
	dir, err := os.MkdirTemp("", "doctor")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(dir, "doctor.test")
	if err := os.WriteFile(copied, content, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(copied, "-test.run=^TestWithoutRoot$", "-test.count=1")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("as nobody: %v\n%s", err, out)
	}
}
