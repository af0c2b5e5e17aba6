// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/isthmus-net/isthmus/pkg/vpc/resource"
)

func TestTableOfCallers(t *testing.T) {
	callers := []Caller{
		{UID: uid(1000), Account: "111111111111"},
		{Group: "2000", Account: "222222222222", Principal: "arn:aws:iam::222222222222:role/ops"},
		{UID: uid(1001), Operator: true},
		{Group: "root", Account: "333333333333", Operator: true},
	}
	table, err := newTable(callers, nil, "aws")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		peer UnixPeer
		want resource.Actor
		ok   bool
	}{
		{"by uid", UnixPeer{UID: 1000, GID: 2000}, resource.Actor{Account: "111111111111", Principal: "arn:aws:iam::111111111111:root"}, true},
		{"by group", UnixPeer{UID: 1, GID: 2000}, resource.Actor{Account: "222222222222", Principal: "arn:aws:iam::222222222222:role/ops"}, true},
		{"by a further group", UnixPeer{UID: 1, GID: 1, Groups: []uint32{5, 2000}}, resource.Actor{Account: "222222222222", Principal: "arn:aws:iam::222222222222:role/ops"}, true},
		{"an operator", UnixPeer{UID: 1001, GID: 1}, resource.Actor{Operator: true}, true},
		{"a group by name", UnixPeer{UID: 1, GID: 0}, resource.Actor{Account: "333333333333", Principal: "arn:aws:iam::333333333333:root", Operator: true}, true},
		{"root", UnixPeer{UID: 0, GID: 7}, resource.Actor{Operator: true}, true},
		{"nobody", UnixPeer{UID: 65534, GID: 65534}, resource.Actor{}, false},
	} {
		got, ok := table.unix(&test.peer)
		if ok != test.ok || ok && got != test.want {
			t.Errorf("%s: %+v, %t", test.name, got, ok)
		}
	}
	for name, bad := range map[string]Caller{
		"nobody":                  {Account: "111111111111"},
		"two":                     {UID: uid(1), Group: "1", Account: "111111111111"},
		"no account":              {UID: uid(1)},
		"a short account":         {UID: uid(1), Account: "1"},
		"no such group":           {Group: "no-such-group", Account: "111111111111"},
		"a principal of others":   {UID: uid(1), Account: "111111111111", Principal: "arn:aws:iam::222222222222:user/a"},
		"a principal of no form":  {UID: uid(1), Account: "111111111111", Principal: "ann"},
		"a principal and no home": {UID: uid(1), Operator: true, Principal: "arn:aws:iam::222222222222:user/a"},
	} {
		if _, err := New(Options{Callers: []Caller{bad}}); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if _, err := New(Options{Operators: []string{"root"}}); err == nil {
		t.Error("an operator without an ARN is taken")
	}
}

// The socket itself says who has connected.
func TestUnixSocket(t *testing.T) {
	b := newBed(t)
	path := filepath.Join(t.TempDir(), "api.sock")
	listener, err := net.Listen("unix", path)
	b.must(err)
	b.must(os.Chmod(path, 0o777))
	for dir := filepath.Dir(path); strings.HasPrefix(dir, os.TempDir()+"/"); dir = filepath.Dir(dir) {
		b.must(os.Chmod(dir, 0o755))
	}
	g := grpc.NewServer(append(b.server.ServerOptions(), grpc.Creds(UnixCredentials()))...)
	b.server.Register(g)
	done := make(chan error, 1)
	go func() { done <- g.Serve(listener) }()
	b.end = append(b.end, func() { g.Stop(); <-done })
	connect := func(dial func(context.Context, string) (net.Conn, error)) *client {
		here := func(ctx context.Context, _ string) (net.Conn, error) { return dial(ctx, path) }
		conn, err := grpc.NewClient("passthrough:test", grpc.WithContextDialer(here), grpc.WithTransportCredentials(insecure.NewCredentials()))
		b.must(err)
		t.Cleanup(func() { conn.Close() })
		return newClient(t, conn)
	}
	if os.Geteuid() != 0 {
		if os.Getenv("ISTHMUS_REQUIRE_PRIVILEGED") == "1" {
			t.Fatal("must run as root")
		}
		t.Skip("only root can be several users")
	}
	got, err := whoAmI(connect(dialUnix))
	b.must(err)
	if !got.Operator {
		t.Errorf("root is %v", got)
	}
	got, err = whoAmI(connect(asUser(consumer)))
	b.must(err)
	if got.Operator || got.Account != consumerAccount || got.Principal != annARN {
		t.Errorf("the consumer is %v", got)
	}
	_, err = whoAmI(connect(asUser(4321)))
	refused(t, err, codes.Unauthenticated, "")
}

func dialUnix(ctx context.Context, path string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "unix", path)
}

// asUser dials as another user does: the kernel asks the thread who it is.
func asUser(uid uint32) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, path string) (conn net.Conn, err error) {
		done := make(chan struct{})
		go func() {
			defer close(done)
			runtime.LockOSThread() // and is never unlocked: the thread ends with the goroutine
			if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), uintptr(uid), ^uintptr(0)); errno != 0 {
				err = errno
				return
			}
			conn, err = dialUnix(ctx, path)
		}()
		<-done
		return conn, err
	}
}

func TestUnixCredentialsRefuseOtherConnections(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if _, _, err := UnixCredentials().ServerHandshake(a); err == nil {
		t.Error("a pipe has been identified")
	}
	if _, _, err := UnixCredentials().ClientHandshake(context.Background(), "", a); err == nil {
		t.Error("a client may have them")
	}
}
