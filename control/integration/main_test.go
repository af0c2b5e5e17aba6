// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/isthmus-net/isthmus/control"
)

// childStore and childSocket have the test binary be a daemon, for tests that kill one.
const (
	childStore  = "ISTHMUS_TEST_DAEMON_STORE"
	childSocket = "ISTHMUS_TEST_DAEMON_SOCKET"
)

func TestMain(m *testing.M) {
	if store := os.Getenv(childStore); store != "" {
		os.Exit(childDaemon(store, os.Getenv(childSocket)))
	}
	os.Exit(m.Run())
}

// childDaemon runs a daemon until it is killed, or its parent is. Only root may call it, as on any machine.
func childDaemon(store, socket string) int {
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM)
	defer stop()
	d, err := control.New(control.Options{API: &control.API{Store: store}, Socket: socket})
	if err == nil {
		err = d.Run(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}
