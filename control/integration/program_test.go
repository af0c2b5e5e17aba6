// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"os"
	"os/exec"
	"testing"

	"github.com/isthmus-net/isthmus/pkg/netns"
	"github.com/isthmus-net/isthmus/pkg/netns/netnstest"
)

// find is the path of a program. Without it the test is skipped, or fails where nothing may be skipped.
func find(t testing.TB, name string) string {
	t.Helper()
	for _, candidate := range []string{name, "/usr/sbin/" + name} {
		if path, err := exec.LookPath(candidate); err == nil {
			return path
		}
	}
	if os.Getenv(netnstest.Required) == "1" {
		t.Fatalf("%s=1, but %s is not installed (make setup installs it)", netnstest.Required, name)
	}
	t.Skipf("%s is not installed (make setup installs it)", name)
	return ""
}

// start starts a program inside ns that runs until the test ends. It also ends when the test's process dies, however
// that happens: a shell waits for the end of its input meanwhile.
func start(t testing.TB, ns *netns.NS, argv ...string) {
	t.Helper()
	const guard = `"$@" & pid=$!; cat >/dev/null; kill "$pid"; { wait "$pid"; } 2>/dev/null`
	cmd := exec.Command("/bin/sh", append([]string{"-c", guard, argv[0]}, argv...)...)
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := netns.Do(ns, cmd.Start); err != nil {
		t.Fatalf("start %s: %v", argv[0], err)
	}
	t.Cleanup(func() {
		in.Close()
		cmd.Wait() // the status is that of the signal
	})
}

// run runs a program inside ns to its end and returns what it printed.
func run(t testing.TB, ns *netns.NS, argv ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
	var out []byte
	err := netns.Do(ns, func() (err error) {
		out, err = cmd.CombinedOutput()
		return err
	})
	if err != nil {
		t.Fatalf("%v: %v\n%s", argv, err, out)
	}
	return out
}
