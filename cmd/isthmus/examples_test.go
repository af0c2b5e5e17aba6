// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-net/isthmus/control"
	"github.com/isthmus-net/isthmus/pkg/netns"
	"github.com/isthmus-net/isthmus/pkg/netns/netnstest"
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// examplePatience is how long packets may take that must pass, and exampleSilence how long an answer is waited for that
// must not come.
const (
	examplePatience = 20 * time.Second
	exampleSilence  = time.Second
)

// consumerAs and providerAs are the parties of the examples.
const (
	consumerAs = " --as 111122223333"
	providerAs = " --as 444455556666"
)

// example is the daemon of examples/api, with namespaces at paths of the test's own.
type example struct {
	*testing.T
	dir      string
	consumer *netns.NS
}

// newExample runs a daemon, and an echo server where the provider's target is.
func newExample(t *testing.T) *example {
	netnstest.RequirePrivileged(t)
	x := &example{T: t, dir: t.TempDir()}
	x.consumer = x.space("consumer")
	listener, err := netns.Listen(x.space("provider"), "tcp4", ":8080")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go echo(listener)
	socket := filepath.Join(x.dir, "d.sock")
	d, err := control.New(control.Options{
		Socket: socket, MaxFlows: 1000, Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
		API: &control.API{Testing: &vpc.Testing{HealthInterval: 100 * time.Millisecond}},
	})
	if err != nil {
		t.Fatal(err)
	}
	background(t, d.Run)
	select {
	case <-d.Ready():
	case <-time.After(examplePatience):
		t.Fatal("the daemon is not ready")
	}
	t.Setenv("ISTHMUS_SOCKET", socket)
	t.Setenv("ISTHMUS_ACCOUNT", "")
	return x
}

// space makes a namespace until the test ends.
func (x *example) space(name string) *netns.NS {
	path := filepath.Join(x.dir, name)
	ns, err := netns.Create(path)
	if err != nil {
		x.Fatal(err)
	}
	x.Cleanup(func() {
		ns.Close()
		if err := netns.Remove(path); err != nil {
			x.Error(err)
		}
	})
	if err := netns.Prepare(ns); err != nil {
		x.Fatal(err)
	}
	return ns
}

// echo sends back what it receives.
func echo(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			io.Copy(conn, conn)
		}()
	}
}

// file is an example with the namespaces of the test.
func (x *example) file(name string) string {
	text, err := os.ReadFile(filepath.Join("../../examples/api", name))
	if err != nil {
		x.Fatal(err)
	}
	path := filepath.Join(x.dir, name)
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(string(text), "/run/netns", x.dir)), 0o600); err != nil {
		x.Fatal(err)
	}
	return path
}

// dial connects to the endpoint from the consumer's namespace.
func (x *example) dial(patience time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(x.Context(), patience)
	defer cancel()
	return netns.Dial(ctx, x.consumer, "tcp4", "10.0.1.50:80")
}

// silent checks that nobody answers.
func (x *example) silent(when string) {
	x.Helper()
	conn, err := x.dial(exampleSilence)
	if err == nil {
		conn.Close()
		x.Errorf("%s a connection opens", when)
	} else if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, os.ErrDeadlineExceeded) {
		x.Errorf("%s a connection ends with %v, want no answer", when, err)
	}
}

// connected opens a connection that must work.
func (x *example) connected() net.Conn {
	x.Helper()
	conn, err := x.dial(examplePatience)
	if err != nil {
		x.Fatal(err)
	}
	x.Cleanup(func() { conn.Close() })
	if err := exchange(conn); err != nil {
		x.Fatal(err)
	}
	return conn
}

// exchange sends something and waits for its echo.
func exchange(conn net.Conn) error {
	conn.SetDeadline(time.Now().Add(examplePatience))
	if _, err := conn.Write([]byte("hello")); err != nil {
		return err
	}
	_, err := io.ReadFull(conn, make([]byte, 5))
	return err
}

// says checks what a command prints.
func (x *example) says(line string, want ...string) {
	x.Helper()
	out := does(x.T, line)
	for _, w := range want {
		if !strings.Contains(out, w) {
			x.Errorf("isthmus %s: there is no %q in\n%s", line, w, out)
		}
	}
}

// TestExamples tells the story of examples/api by commands, with packets.
func TestExamples(t *testing.T) {
	x := newExample(t)
	does(t, "apply -f "+x.file("accounts.yaml"))
	does(t, "apply --wait -f "+x.file("provider.yaml")+providerAs)
	does(t, "apply --wait -f "+x.file("consumer.yaml")+consumerAs)

	x.says("get endpoint web"+consumerAs, "pendingAcceptance")
	x.silent("while the endpoint waits")
	x.says("accept site --all --wait"+providerAs, "available")
	conn := x.connected()
	x.says("describe endpoint web"+consumerAs, "available since", "Connections now: 1", "10.0.1.50", "in force", "are the provider's to see")
	x.says("describe endpoint web --account 111122223333", "10.0.1.10:8080", "80 to servers")
	x.says("get attachment"+consumerAs, "true")
	fails(t, exitConflict, "delete service site"+providerAs, "reject all endpoints")
	fails(t, exitConflict, "delete lb front"+providerAs, "site")
	if err := exchange(conn); err != nil {
		t.Errorf("after refused deletions: %v", err)
	}

	x.says("reject site --all --wait"+providerAs, "rejected")
	if err := exchange(conn); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("after the rejection the connection ends with %v, want a reset", err)
	}
	x.silent("after the rejection")
	x.says("describe endpoint web"+consumerAs, "rejected since", "the dataplane does not run it")
	x.says("accept site --wait "+x.uid()+providerAs, "available")
	conn = x.connected()

	does(t, "update sg web --set ingress=[] --wait"+consumerAs)
	if err := exchange(conn); err != nil {
		t.Errorf("what was open before the rule went: %v", err)
	}
	x.silent("without a rule")
	x.says("describe endpoint web"+consumerAs, "security-group")

	x.says("delete --wait -f "+filepath.Join(x.dir, "consumer.yaml")+consumerAs, "deleted endpoint", "deleted vpc")
	x.says("delete --wait -f "+filepath.Join(x.dir, "provider.yaml")+providerAs, "deleted endpoint-service")
	links, err := netns.Links(x.consumer)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if strings.HasPrefix(l.Name, "isth") {
			t.Errorf("the daemon has left %s behind", l.Name)
		}
	}
}

// uid is that of the consumer's endpoint.
func (x *example) uid() string {
	for line := range strings.Lines(does(x.T, "get endpoint web -o yaml"+consumerAs)) {
		if uid, ok := strings.CutPrefix(strings.TrimSpace(line), "uid: "); ok {
			return uid
		}
	}
	x.Fatal("the endpoint has no uid")
	return ""
}
