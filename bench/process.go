// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/isthmus-net/isthmus/pkg/netns"
)

const (
	// startLimit bounds how long a child may take to say that it is ready: a client, until its first success.
	startLimit = 15 * time.Second
	// markLimit bounds the answer to a mark.
	markLimit = 5 * time.Second
	// stopLimit is how long a child may take to end after its input was closed, before it is killed.
	stopLimit = 3 * time.Second
)

// mark is what a child says of itself at one moment: counters since it started, so that the difference of two marks is
// what happened in a window.
type mark struct {
	At     time.Duration     // the machine's monotonic clock
	Count  uint64            // connections, or requests
	Bytes  uint64            // of payload
	Errors map[string]uint64 `json:",omitempty"`
	// P50 and P99 are of the durations since the previous mark, unlike the counters.
	P50, P99 time.Duration `json:",omitzero"`
}

// ready is the first thing a child says.
type ready struct {
	// PID is the process whose processor time is the role's; it may be a child's child.
	PID int
	// Offloads describes the devices a dataplane opened.
	Offloads string `json:",omitempty"`
}

// process is a running child: this program again, in another role. Closing its input ends it, so that none outlives
// its parent, however that ends.
type process struct {
	ready
	role   string
	cmd    *exec.Cmd
	input  *os.File
	output *os.File
	lines  *bufio.Reader
	stderr bytes.Buffer
	ended  chan struct{}
}

// startProcess runs the role with its specification inside ns (nil: where we are) and returns when it is ready. self is
// the command that runs a role.
func startProcess(ctx context.Context, self []string, ns *netns.NS, role string, spec any) (*process, error) {
	encoded, err := json.Marshal(spec)
	if err != nil {
		return nil, fmt.Errorf("encode specification of %s: %w", role, err)
	}
	childInput, input, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", role, err)
	}
	defer childInput.Close()
	output, childOutput, err := os.Pipe()
	if err != nil {
		input.Close()
		return nil, fmt.Errorf("start %s: %w", role, err)
	}
	defer childOutput.Close()

	args := append(self[1:len(self):len(self)], role, string(encoded))
	p := &process{role: role, cmd: exec.Command(self[0], args...), input: input, output: output,
		lines: bufio.NewReader(output), ended: make(chan struct{})}
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = childInput, childOutput, &p.stderr
	p.cmd.WaitDelay = stopLimit // for a child's child that holds the error output open
	// Its own process group: an interrupt from the terminal is the parent's to handle, in order.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := netns.Do(ns, p.cmd.Start); err != nil {
		input.Close()
		output.Close()
		return nil, fmt.Errorf("start %s: %w", role, err)
	}
	go func() {
		defer close(p.ended)
		p.cmd.Wait()
	}()
	if err := p.answer(ctx, startLimit, &p.ready); err != nil {
		return nil, errors.Join(err, p.stop())
	}
	return p, nil
}

// mark asks the child for its counters.
func (p *process) mark(ctx context.Context) (mark, error) {
	var m mark
	if _, err := p.input.WriteString("mark\n"); err != nil {
		return m, p.explain(err)
	}
	err := p.answer(ctx, markLimit, &m)
	return m, err
}

// answer reads one line of the child's output into v.
func (p *process) answer(ctx context.Context, limit time.Duration, v any) error {
	p.output.SetReadDeadline(time.Now().Add(limit))
	defer context.AfterFunc(ctx, func() { p.output.SetReadDeadline(time.Unix(1, 0)) })()
	line, err := p.lines.ReadBytes('\n')
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err == nil {
		err = json.Unmarshal(line, v)
	}
	if err != nil {
		return p.explain(err)
	}
	return nil
}

// explain ends the child and adds what it said on its error output.
func (p *process) explain(err error) error {
	p.stop()
	if said := strings.TrimSpace(p.stderr.String()); said != "" {
		return fmt.Errorf("%s: %s", p.role, said)
	}
	return fmt.Errorf("%s: %w", p.role, err)
}

// stop ends the child and waits for it. Stopping twice is safe.
func (p *process) stop() error {
	p.input.Close()
	defer p.output.Close()
	select {
	case <-p.ended:
		return nil
	case <-time.After(stopLimit):
	}
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("end %s: %w", p.role, err)
	}
	<-p.ended
	return nil
}

// awaitSocket waits until the role's process, or another in its namespace, has a socket that takes what is sent to the
// local address: one that listens, if proto is tcp. Connecting would tell as well, but a proxy would go on to a server that
// is not there yet.
func (p *process) awaitSocket(ctx context.Context, proto string, local netip.AddrPort) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	state := map[string]string{"tcp": "0A", "udp": "07"}[proto] // as the kernel's tcp_states.h numbers them
	address := local.Addr().As4()
	name := fmt.Sprintf("%08X:%04X", binary.NativeEndian.Uint32(address[:]), local.Port())
	for {
		sockets, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", p.PID, proto))
		if err != nil {
			return p.explain(fmt.Errorf("wait for its socket: %w", err))
		}
		for line := range strings.Lines(string(sockets)) {
			if f := strings.Fields(line); len(f) > 3 && f[1] == name && f[3] == state {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return p.explain(fmt.Errorf("wait for its socket at %s: %w", local, ctx.Err()))
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// cpu returns the processor time, user and system, that the role's process has used.
func (p *process) cpu() (time.Duration, error) {
	// The clock of another process: MAKE_PROCESS_CPUCLOCK(pid, CPUCLOCK_SCHED) of the kernel's posix-timers.h.
	clock := int32(^p.PID<<3 | 2)
	var ts unix.Timespec
	if err := unix.ClockGettime(clock, &ts); err != nil {
		return 0, fmt.Errorf("processor time of %s: %w", p.role, err)
	}
	return time.Duration(ts.Nano()), nil
}

// monotonic is the machine's monotonic clock, the same in every process.
func monotonic() time.Duration {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}
