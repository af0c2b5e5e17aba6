// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// fewFiles is a limit of descriptors that a daemon reaches early: each port takes one for every worker.
const fewFiles = 4096

// self is the process that asks, in place of a number. What is started from its shell has its limits.
const self = "self"

// descriptors looks at the limit of a process, and at how near to it a daemon is.
func (e *examination) descriptors(process string) {
	const check = "descriptors"
	dir := filepath.Join(e.Proc, process)
	data, err := os.ReadFile(filepath.Join(dir, "limits"))
	if err != nil {
		e.limit(check, "%v; run as root", err)
		return
	}
	_, rest, _ := strings.Cut(string(data), "Max open files")
	fields := strings.Fields(rest)
	if len(fields) < 2 {
		e.limit(check, "%s/limits has no line about open files", dir)
		return
	}
	e.checked(check)
	limit, err := strconv.Atoi(fields[1]) // the hard one, to which the Go runtime raises the soft one
	if err != nil {
		return // unlimited
	}
	f := Finding{Severity: Warning, Check: check, Where: dir, Mend: "prlimit --nofile=1048576 --pid " + strings.Replace(process, self, "$$", 1)}
	f.Mend += " (under systemd: LimitNOFILE=1048576 in the unit)"
	open, err := os.ReadDir(filepath.Join(dir, "fd"))
	switch {
	case process != self && err == nil && len(open) > limit*8/10:
		f.Severity, f.Fault = Fault, fmt.Sprintf("the daemon has %d of %d descriptors open, and soon no port will open", len(open), limit)
	case limit < fewFiles:
		f.Fault = fmt.Sprintf("a process may have %d descriptors here; each port takes one for every worker", limit)
	default:
		return
	}
	e.add(f)
}

// inotify takes one instance and one watch, as a daemon does to follow its files and namespaces.
func (e *examination) inotify() {
	const check = "inotify"
	e.checked(check)
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	name := "max_user_instances"
	if err == nil {
		defer unix.Close(fd)
		name = "max_user_watches"
		_, err = unix.InotifyAddWatch(fd, "/", unix.IN_DELETE_SELF)
	}
	if err == nil {
		return
	}
	if !errors.Is(err, unix.EMFILE) && !errors.Is(err, unix.ENOSPC) {
		e.limit(check, "trying it out: %v", err)
		return
	}
	e.add(Finding{
		Severity: Fault, Check: check, Where: filepath.Join(e.Proc, "sys/fs/inotify", name),
		Fault: "all of fs/inotify/" + name + " are in use, so changes of files and namespaces go unnoticed",
		Mend:  "sysctl -w fs/inotify/" + name + "=524288",
	})
}

// slowClocks are those that the kernel must be asked for. A worker reads the clock twice a turn.
var slowClocks = []string{"hpet", "acpi_pm", "jiffies", "refined-jiffies", "pit"}

// clock looks at what the kernel takes the time from.
func (e *examination) clock() {
	const check = "clock"
	dir := filepath.Join(e.Sys, "devices/system/clocksource/clocksource0")
	current, err := os.ReadFile(filepath.Join(dir, "current_clocksource"))
	if err != nil {
		e.limit(check, "%v", err)
		return
	}
	e.checked(check)
	name := strings.TrimSpace(string(current))
	if !slices.Contains(slowClocks, name) {
		return
	}
	mend := "add tsc=reliable to the kernel's command line, if the processor's counter is (or move to another machine)"
	others, _ := os.ReadFile(filepath.Join(dir, "available_clocksource")) // missing: nothing better is known
	for _, other := range strings.Fields(string(others)) {
		if !slices.Contains(slowClocks, other) {
			mend = fmt.Sprintf("echo %s > %s", other, filepath.Join(dir, "current_clocksource"))
			break
		}
	}
	e.add(Finding{
		Severity: Warning, Check: check, Where: dir,
		Fault: "the kernel takes the time from " + name + ", which is slow to read; workers read it every turn", Mend: mend,
	})
}
