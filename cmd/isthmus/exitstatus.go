// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// exitStatus is an error that has been explained already: the process is to end with this status and say nothing more.
type exitStatus int

// Error is for those who print it all the same.
func (s exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

// statusOf is the exit status of a command that has run, as a shell gives it: 128 and the signal if one ended it.
func statusOf(err error) error {
	var ended *exec.ExitError
	if !errors.As(err, &ended) {
		return err
	}
	if status, ok := ended.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return exitStatus(128 + int(status.Signal()))
	}
	return exitStatus(ended.ExitCode())
}

// runForeground starts a command and waits for its end. Meanwhile signals are the command's business: those of forwarded
// are passed on to it, and the others that would end this process reach it by themselves when they come from the
// terminal. The error is an exitStatus when the command itself failed.
func runForeground(cmd *exec.Cmd, start func() error, forwarded ...os.Signal) error {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGHUP)
	defer signal.Stop(signals)
	if err := start(); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	for {
		select {
		case err := <-done:
			return statusOf(err)
		case s := <-signals:
			if slices.Contains(forwarded, s) {
				cmd.Process.Signal(s)
			}
		}
	}
}
