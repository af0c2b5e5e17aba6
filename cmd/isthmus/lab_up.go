// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/isthmus-net/isthmus/control"
	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
	"github.com/isthmus-net/isthmus/pkg/lab"
)

// daemonProcess is the name of a lab's daemon among its processes. Those of instances end in a hyphen and a number.
const daemonProcess = "daemon"

// How long the parts of a lab may take, and how often one looks.
const (
	daemonTime   = 15 * time.Second
	answerTime   = 10 * time.Second
	lookInterval = 50 * time.Millisecond
)

// labUpCommand is `isthmus lab up`.
func labUpCommand() *cobra.Command {
	var offloads string
	cmd := &cobra.Command{
		Use:   "up FILE",
		Short: "Build the lab of a topology file and start its daemon and servers",
		Long: "Build the lab of a topology file and start its daemon and servers, which stay until `isthmus lab down`.\n" +
			"examples/ has topologies with comments.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := offloadSwitches(offloads); err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, unix.SIGTERM)
			defer stop()
			return labUp(ctx, cmd.OutOrStdout(), args[0], offloads)
		},
	}
	addOffloadsFlag(cmd, &offloads)
	return cmd
}

// labUp builds and starts a lab, or leaves nothing. A lab whose endpoints do not answer is an error too, but stands.
func labUp(ctx context.Context, out io.Writer, file, offloads string) error {
	t, err := lab.Load(file)
	if err != nil {
		return err
	}
	if err := labPreflight(); err != nil {
		return err
	}
	dir := lab.Dir(t.Name)
	if err := lab.Up(ctx, t, dir); err != nil {
		if errors.Is(err, os.ErrExist) {
			return fmt.Errorf("there is a lab %q already; remove it (isthmus lab down %s), or change the name in %s", t.Name, t.Name, file)
		}
		return err
	}
	if err := startLab(ctx, t, dir, offloads); err != nil {
		return errors.Join(fmt.Errorf("lab %s: %w", t.Name, err), lab.Down(dir))
	}
	silent := awaitAnswers(ctx, t, dir)
	printLab(out, t, dir)
	if silent != nil {
		return fmt.Errorf("lab %s stands, but %w (isthmus lab status %s shows its processes)", t.Name, silent, t.Name)
	}
	printNext(out, t, dir)
	return nil
}

// startLab starts the servers of a lab and its daemon, waits until that has all ports open, and leads routes to those of
// GWLB endpoints. Servers come first, so that no health check finds them missing.
func startLab(ctx context.Context, t *lab.Topology, dir, offloads string) error {
	state, err := t.State(dir)
	if err != nil {
		return err
	}
	content, err := control.MarshalState(state)
	if err != nil {
		return err
	}
	if err := os.WriteFile(lab.StateFile(dir), content, 0o644); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	processes := t.Processes(self, "lab", "serve")
	processes = append(processes, lab.Process{Name: daemonProcess, Argv: []string{
		self, "daemon", "-f", lab.StateFile(dir), "--socket", lab.Socket(dir), "--offloads=" + offloads,
	}})
	for _, p := range processes {
		if err := lab.Launch(dir, p); err != nil {
			return err
		}
	}
	if err := awaitDaemon(ctx, dir); err != nil {
		return err
	}
	return lab.SetRoutes(t, dir)
}

// awaitDaemon waits until the daemon of a lab runs its configuration on open ports.
func awaitDaemon(ctx context.Context, dir string) error {
	ctx, cancel := context.WithTimeout(ctx, daemonTime)
	defer cancel()
	client, err := dialInspect(lab.Socket(dir))
	if err != nil {
		return err
	}
	defer client.Close()
	for {
		status, err := client.Status(ctx, &apiv1.StatusRequest{})
		if err == nil {
			err = daemonReady(status)
		}
		if err == nil {
			return nil
		}
		if !processRuns(dir, daemonProcess) {
			return fmt.Errorf("the daemon ended; it said:\n%s", logTail(dir, daemonProcess))
		}
		if pause(ctx, lookInterval) != nil {
			return fmt.Errorf("the daemon is not ready: %w; it said:\n%s", err, logTail(dir, daemonProcess))
		}
	}
}

// daemonReady says what a daemon still lacks.
func daemonReady(status *apiv1.StatusResponse) error {
	if status.AppliedRevision == 0 {
		return errors.New("no configuration is in force")
	}
	for _, p := range status.Ports {
		if !p.Open {
			return fmt.Errorf("port %s is not open: %s", p.Id, p.Error)
		}
	}
	return nil
}

// processRuns says whether a process of a lab runs.
func processRuns(dir, name string) bool {
	list, err := lab.Status(dir)
	for _, p := range list {
		if p.Name == name {
			return p.PID != 0
		}
	}
	return err != nil // unknown is no reason to give up
}

// logTail is the end of what a process of a lab has printed.
func logTail(dir, process string) string {
	const lines = 10
	content, err := os.ReadFile(lab.Log(dir, process))
	if err != nil {
		return err.Error()
	}
	list := bytes.Split(bytes.TrimSpace(content), []byte("\n"))
	return string(bytes.Join(list[max(0, len(list)-lines):], []byte("\n")))
}

// pause waits, unless ctx ends first.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
