// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/isthmus-net/isthmus/pkg/netns"
	"golang.org/x/sys/unix"
)

// How long processes may take to end when asked, and when not.
const (
	termGrace = 5 * time.Second
	killGrace = 5 * time.Second
)

// proc is a running process. The start time, in ticks since the machine started, tells it from a later one with the
// same number.
type proc struct {
	pid, session int
	start        uint64
}

// readProc looks a process up. One that has ended and only waits to be collected is os.ErrNotExist.
func readProc(pid int) (proc, error) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return proc{}, err
	}
	// proc_pid_stat(5): the second field is in parentheses and may contain anything; state is the third.
	fields := strings.Fields(string(content[bytes.LastIndexByte(content, ')')+1:]))
	if len(fields) < 20 {
		return proc{}, fmt.Errorf("/proc/%d/stat: %q is too short", pid, content)
	}
	if state := fields[0]; state == "Z" || state == "X" {
		return proc{}, os.ErrNotExist
	}
	p := proc{pid: pid}
	p.session, err = strconv.Atoi(fields[3])
	if err != nil {
		return proc{}, fmt.Errorf("/proc/%d/stat: session: %w", pid, err)
	}
	p.start, err = strconv.ParseUint(fields[19], 10, 64)
	if err != nil {
		return proc{}, fmt.Errorf("/proc/%d/stat: start time: %w", pid, err)
	}
	return p, nil
}

// bootID tells one run of the machine from the next, whose process numbers mean others.
func bootID() string {
	content, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(content))
}

// is says whether a running process is the one of the record.
func (r *record) is(p proc) bool {
	return r.PID == p.pid && r.Start == p.start && r.Boot == bootID()
}

// carries says whether the environment of a process has the record's token. It finds a process whose number could not
// be written down, and what a process has started.
func (r *record) carries(environ []byte) bool {
	return bytes.Contains(append([]byte{0}, environ...), []byte("\x00"+tokenVariable+"="+r.Token+"\x00"))
}

// owned finds the running processes of records. A program may have overwritten its environment; what such a one has
// started is known by its session together with a namespace of the lab.
func owned(dir string, list []record) ([]proc, error) {
	if len(list) == 0 {
		return nil, nil
	}
	spaces := map[netns.ID]bool{}
	nodes, _ := filepath.Glob(Netns(dir, "*"))
	for _, node := range nodes {
		if id, err := netns.Lookup(node); err == nil {
			spaces[id] = true
		}
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var found []proc
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		p, err := readProc(pid)
		if err != nil {
			continue // ended meanwhile
		}
		environ, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		inside := false
		if id, err := netns.Lookup(fmt.Sprintf("/proc/%d/ns/net", pid)); err == nil {
			inside = spaces[id]
		}
		for _, r := range list {
			if r.is(p) || r.carries(environ) || inside && p.session == r.PID && r.PID != 0 {
				found = append(found, p)
				break
			}
		}
	}
	return found, nil
}

// terminate ends processes: asked first, then made to. It returns when all have ended.
func terminate(list []proc) error {
	var polls []unix.PollFd
	for _, p := range list {
		// A descriptor means one process for good; the number is checked once more behind it.
		fd, err := unix.PidfdOpen(p.pid, 0)
		if errors.Is(err, unix.ESRCH) {
			continue
		}
		if err != nil {
			return fmt.Errorf("end process %d: %w", p.pid, err)
		}
		defer unix.Close(fd)
		if again, err := readProc(p.pid); err != nil || again.start != p.start {
			continue
		}
		polls = append(polls, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
	}
	for _, step := range []struct {
		signal unix.Signal
		grace  time.Duration
	}{{unix.SIGTERM, termGrace}, {unix.SIGKILL, killGrace}} {
		for _, poll := range polls {
			err := unix.PidfdSendSignal(int(poll.Fd), step.signal, nil, 0)
			if err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("end process: %w", err)
			}
		}
		var err error
		if polls, err = ended(polls, time.Now().Add(step.grace)); err != nil || len(polls) == 0 {
			return err
		}
	}
	return fmt.Errorf("%d processes do not end", len(polls))
}

// ended waits for processes to end and returns those that have not by the deadline.
func ended(polls []unix.PollFd, deadline time.Time) ([]unix.PollFd, error) {
	for len(polls) > 0 {
		left := time.Until(deadline)
		if left <= 0 {
			break
		}
		_, err := unix.Poll(polls, int(left.Milliseconds())+1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return nil, fmt.Errorf("wait for processes: %w", err)
		}
		var running []unix.PollFd
		for _, poll := range polls {
			if poll.Revents == 0 {
				running = append(running, poll)
			}
		}
		polls = running
	}
	return polls, nil
}
