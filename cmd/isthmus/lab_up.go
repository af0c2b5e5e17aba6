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
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/isthmus-net/isthmus/cmd/isthmus/labapi"
	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
	"github.com/isthmus-net/isthmus/pkg/lab"
)

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
		Long: "Build the lab of a topology file and start its daemon and servers, which stay until `isthmus lab down`. What the\n" +
			"file says of load balancers, services and endpoints the daemon is told by its API, so that all commands for that\n" +
			"work on it, with --socket. For a lab that stands, whatever is different is applied: endpoints and what is behind\n" +
			"them, and what instances run, but not VPCs, instances and route tables. A daemon that has died is started again.\n" +
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

// labUp builds and starts a lab, or leaves nothing; one that stands is changed, and stays in any case. A lab whose
// endpoints do not answer is an error too, but stands.
func labUp(ctx context.Context, out io.Writer, file, offloads string) error {
	t, err := lab.Load(file)
	if err != nil {
		return err
	}
	if err := labPreflight(); err != nil {
		return err
	}
	dir := lab.Dir(t.Name)
	err = lab.Up(ctx, t, dir)
	switch stands := errors.Is(err, os.ErrExist); {
	case stands:
		if err := changeLab(ctx, out, t, dir, offloads); err != nil {
			return fmt.Errorf("change lab %s: %w", t.Name, err)
		}
	case err != nil:
		return err
	default:
		if _, err := runLab(ctx, t, dir, offloads); err != nil {
			return errors.Join(fmt.Errorf("lab %s: %w", t.Name, err), lab.Down(dir))
		}
	}
	silent := awaitAnswers(ctx, t, dir, lookAt(ctx, dir))
	printLab(out, t, dir, lookAt(ctx, dir))
	if silent != nil {
		return fmt.Errorf("lab %s stands, but %w (isthmus lab status %s shows its processes)", t.Name, silent, t.Name)
	}
	printNext(out, t, dir)
	return nil
}

// changeLab makes a lab that stands that of t, and says what is different.
func changeLab(ctx context.Context, out io.Writer, t *lab.Topology, dir, offloads string) error {
	_, old, err := openLab(t.Name)
	if err != nil {
		return err
	}
	if err := old.Fits(t); err != nil {
		return err
	}
	changes, err := runLab(ctx, t, dir, offloads)
	if err != nil {
		return err
	}
	if err := lab.Update(t, dir); err != nil {
		return err
	}
	for _, c := range changes {
		if c.Action != apiv1.ApplyAction_APPLY_ACTION_NONE {
			word := strings.TrimPrefix(c.Action.String(), "APPLY_ACTION_")
			fmt.Fprintf(out, "%s %s\n", strings.ToLower(word), c.Name)
		}
	}
	return nil
}

// runLab has the servers of a lab run, and its daemon with all ports open and what the topology says applied, and returns
// what that has changed. What runs as it should is left alone. Servers come first, so that no health check finds them
// missing.
func runLab(ctx context.Context, t *lab.Topology, dir, offloads string) ([]*apiv1.PlannedChange, error) {
	resources, err := t.Resources(dir)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	processes := append(t.Processes(self, "lab", "serve"), labDaemon(t, dir, self, offloads))
	if err := runProcesses(dir, processes); err != nil {
		return nil, err
	}
	daemon, err := labapi.Dial(lab.Socket(dir))
	if err != nil {
		return nil, err
	}
	defer daemon.Close()
	ctx, cancel := context.WithTimeout(ctx, daemonTime)
	defer cancel()
	if err := awaitDaemon(ctx, dir, daemon, func(*apiv1.StatusResponse) error { return nil }); err != nil {
		return nil, err
	}
	changes, err := daemon.Apply(ctx, labapi.Manifest(t.Name, resources))
	if err != nil {
		return nil, err
	}
	return changes, awaitDaemon(ctx, dir, daemon, daemonReady)
}

// runProcesses has the processes of a lab be those of a list.
func runProcesses(dir string, wanted []lab.Process) error {
	list, err := lab.Status(dir)
	if err != nil {
		return err
	}
	runs := map[string]bool{}
	for _, p := range list {
		same := func(w lab.Process) bool { return reflect.DeepEqual(w, p.Process) }
		if runs[p.Name] = p.PID != 0 && slices.ContainsFunc(wanted, same); runs[p.Name] {
			continue
		}
		if err := lab.Stop(dir, p.Name); err != nil {
			return err
		}
	}
	for _, p := range wanted {
		if runs[p.Name] {
			continue
		}
		if err := lab.Launch(dir, p); err != nil {
			return err
		}
	}
	return nil
}

// awaitDaemon waits until the daemon of a lab answers and lacks nothing.
func awaitDaemon(ctx context.Context, dir string, daemon *labapi.Client, lacks func(*apiv1.StatusResponse) error) error {
	for {
		status, err := daemon.Inspect.Status(ctx, &apiv1.StatusRequest{})
		if err == nil {
			err = lacks(status)
		}
		if err == nil {
			return nil
		}
		if !processRuns(dir, daemonProcess) {
			return fmt.Errorf("the daemon ended; it said:\n%s", logTail(dir, daemonProcess))
		}
		if pause(ctx, lookInterval) != nil {
			return fmt.Errorf("the daemon is not ready: %w; it said:\n%s", labapi.Plain(err), logTail(dir, daemonProcess))
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
