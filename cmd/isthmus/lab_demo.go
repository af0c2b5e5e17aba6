// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/isthmus-net/isthmus/cmd/isthmus/demo"
	"github.com/isthmus-net/isthmus/pkg/lab"
)

// demoPrefix begins the names of the labs of demos; the number of the process that looks after one follows.
const demoPrefix = "demo-"

// demoChild is the environment variable that tells the process that runs a demo the directory of its lab.
const demoChild = "ISTHMUS_DEMO_DIR"

// labDemoCommand is `isthmus lab demo`. The demo itself runs in a child process, so that there is somebody to clean up
// behind it whatever becomes of it.
func labDemoCommand() *cobra.Command {
	var (
		offloads      string
		verbose, keep bool
	)
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show on a lab of its own that the rules of the PrivateLink guide hold, one line for each",
		Long: "Show on a lab of its own that the rules of the PrivateLink guide hold, one line for each: a consumer and a\n" +
			"provider VPC with the same addresses, a network load balancer with three targets, two interface endpoints; and\n" +
			"two VPCs, again with the same addresses, whose traffic with the internet is led through GWLB endpoints to\n" +
			"four appliances behind a gateway load balancer. Provider and consumer are two accounts, which drive the daemon by\n" +
			"its API, and a third one has no business here. Rules about what they may do are shown by what packets do.\n" +
			"Nothing else is needed, and nothing is left behind. The exit status is 1 if a rule does not hold.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switches, err := offloadSwitches(offloads)
			if err != nil {
				return err
			}
			dir := os.Getenv(demoChild)
			if dir == "" {
				return superviseDemo(cmd, "--offloads="+offloads, fmt.Sprintf("--verbose=%t", verbose), fmt.Sprintf("--keep=%t", keep))
			}
			o := demo.Options{
				Dir: dir, Offloads: switches, Workers: min(2, runtime.NumCPU()), Out: cmd.OutOrStdout(), Verbose: verbose,
			}
			if verbose {
				o.Log = slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
			}
			if keep {
				o.Keep = func(ctx context.Context) { holdDemo(ctx, cmd.OutOrStdout(), dir) }
			}
			return runDemo(cmd, o)
		},
	}
	addOffloadsFlag(cmd, &offloads)
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "say what the daemon does and how long each check takes")
	cmd.Flags().BoolVar(&keep, "keep", false, "let the lab stand after the checks, until Ctrl-C")
	return cmd
}

// runDemo is the child's part.
func runDemo(cmd *cobra.Command, o demo.Options) error {
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, unix.SIGTERM)
	defer stop()
	results, err := demo.Run(ctx, o)
	if err != nil {
		if ctx.Err() != nil {
			err = errors.New("interrupted")
		}
		return err
	}
	passed, failed := demo.Count(results)
	fmt.Fprintf(o.Out, "\ndemo: %d passed, %d failed\n", passed, failed)
	if failed > 0 {
		return exitStatus(1)
	}
	return nil
}

// holdDemo waits for Ctrl-C.
func holdDemo(ctx context.Context, out io.Writer, dir string) {
	name := strings.TrimPrefix(dir, lab.Root+"/")
	fmt.Fprintf(out, "\nThe lab stands until Ctrl-C. In another terminal:\n"+
		"  isthmus lab exec %[1]s/client-1 -- cat /etc/hosts\n"+
		"  isthmus get endpoints --socket %[2]s\n"+
		"  isthmus status --socket %[2]s\n", name, lab.Socket(dir))
	<-ctx.Done()
}

// superviseDemo runs this command again as a child, with flags, and takes the lab away when that has ended. A child that
// loses its supervisor ends.
func superviseDemo(cmd *cobra.Command, flags ...string) error {
	if err := labPreflight(); err != nil {
		return err
	}
	sweepDemos()
	dir := lab.Dir(demoPrefix + strconv.Itoa(os.Getpid()))
	self, err := os.Executable()
	if err != nil {
		return err
	}
	child := exec.Command(self, append([]string{"lab", "demo"}, flags...)...)
	child.Env = append(os.Environ(), demoChild+"="+dir)
	child.Stdout, child.Stderr = cmd.OutOrStdout(), cmd.ErrOrStderr()
	// In a group of its own it hears of Ctrl-C once, from us.
	child.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGTERM, Setpgid: true}
	// The signal comes when the thread that started the child ends: that has to be the process's end.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err = runForeground(child, child.Start, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGHUP)
	if child.ProcessState != nil && !child.ProcessState.Exited() {
		err = fmt.Errorf("the demo was ended by a signal (%s); its lab has been removed", child.ProcessState)
	}
	if failed := lab.Down(dir); failed != nil {
		return failed
	}
	return err
}

// sweepDemos removes what demos have left that were killed together with their supervisor.
func sweepDemos() {
	list, _ := lab.List(lab.Root)
	for _, l := range list {
		number, ok := strings.CutPrefix(l.Name, demoPrefix)
		pid, err := strconv.Atoi(number)
		if ok && err == nil && errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
			lab.Down(l.Dir)
		}
	}
}
