// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-net/isthmus/pkg/netns/netnstest"
)

func TestApplianceFlags(t *testing.T) {
	for line, want := range map[string]string{
		"--drop telnet":           `"telnet" starts no term`,
		"--listen example.org":    "give an IPv4 address",
		"--mode bridge":           "choose one of: hairpin or tun",
		"--offloads some":         "choose one of: off or on",
		"--print-rate many":       "invalid argument",
		"--netns /nonexistent/ns": "/nonexistent/ns",
	} {
		var out, errors bytes.Buffer
		code := run(append([]string{"appliance"}, strings.SplitN(line, " ", 2)...), &out, &errors)
		if code == exitOK || !strings.Contains(errors.String(), want) {
			t.Errorf("%s: exit code %d, %s", line, code, &errors)
		}
	}
}

// The command runs until it is told to stop, and prints counters when it is asked to.
func TestApplianceSignals(t *testing.T) {
	ns := netnstest.New(t)
	out := &lines{found: make(chan struct{}), want: "received 0 packets"}
	ended := make(chan int, 1)
	go func() {
		ended <- run([]string{"appliance", "--netns", ns.Path(), "--stats", "10ms"}, out, out)
	}()
	select {
	case <-out.found:
	case code := <-ended:
		t.Fatalf("ended with %d: %s", code, out.all.String())
	case <-time.After(10 * time.Second):
		t.Fatal("no counters are printed")
	}
	if err := syscall.Kill(syscall.Getpid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := <-ended; code != exitOK {
		t.Errorf("exit code %d: %s", code, out.all.String())
	}
}

// lines is a writer that says when it has been given a text.
type lines struct {
	all   bytes.Buffer
	want  string
	found chan struct{}
	said  bool
}

func (l *lines) Write(b []byte) (int, error) {
	l.all.Write(b)
	if !l.said && strings.Contains(l.all.String(), l.want) {
		l.said = true
		close(l.found)
	}
	return len(b), nil
}
