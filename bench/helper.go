// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
)

// Roles of child processes.
const (
	roleClient  = "client"
	roleServer  = "server"
	roleNull    = "null"
	roleIsthmus = "isthmus"
	roleExec    = "exec"
	roleDaemon  = "daemon"
)

// Helper is the child's side of a run: it plays role as the JSON text spec says, answers each line of in with a line
// of counters on out, and returns when in ends. It is for the run's own children and for nobody else.
func Helper(role, spec string, in io.Reader, out io.Writer) error {
	start, ok := map[string]func([]byte) (*helper, error){
		roleClient: startClient, roleServer: startServer, roleNull: startNull, roleIsthmus: startIsthmus,
		roleExec: startExec, roleDaemon: startDaemon,
	}[role]
	if !ok {
		return fmt.Errorf("unknown role %q: this command is run by `bench run` only", role)
	}
	h, err := start([]byte(spec))
	if err != nil {
		return err
	}
	if h.stop != nil {
		defer h.stop()
	}
	if h.PID == 0 {
		h.PID = os.Getpid()
	}
	encoder := json.NewEncoder(out)
	if err := encoder.Encode(h.ready); err != nil {
		return err
	}
	for lines := bufio.NewScanner(in); lines.Scan(); {
		m := mark{At: monotonic()}
		if h.sample != nil {
			h.sample(&m)
		}
		if err := encoder.Encode(m); err != nil {
			return err
		}
	}
	return nil
}

// helper is a role being played.
type helper struct {
	ready
	sample func(*mark) // fills in the counters; may be nil
	stop   func()      // may be nil: what a process leaves to the kernel is cleaned up with it
}

// decode reads a specification. Both sides are the same program, so anything unknown is a bug.
func decode(spec []byte, v any) error {
	if err := json.Unmarshal(spec, v); err != nil {
		return fmt.Errorf("specification: %w", err)
	}
	return nil
}

// execSpec is a program that knows nothing of us.
type execSpec struct {
	Command []string
	Input   string // what it reads from its standard input
}

// startExec runs a program that ends with this process, even if this process is killed.
func startExec(spec []byte) (*helper, error) {
	var s execSpec
	if err := decode(spec, &s); err != nil {
		return nil, err
	}
	// The kernel sends the signal when the thread that forked ends. This goroutine is the process's first and stays.
	runtime.LockOSThread()
	cmd := exec.Command(s.Command[0], s.Command[1:]...)
	cmd.Stdin, cmd.Stderr = strings.NewReader(s.Input), os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("run %s: %w", s.Command[0], err)
	}
	var stopping atomic.Bool
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := cmd.Wait(); !stopping.Load() {
			fmt.Fprintf(os.Stderr, "%s ended by itself: %v\n", s.Command[0], err)
			os.Exit(1)
		}
	}()
	stop := func() {
		stopping.Store(true)
		if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			fmt.Fprintln(os.Stderr, err)
		}
		<-ended
	}
	return &helper{ready: ready{PID: cmd.Process.Pid}, stop: stop}, nil
}
