// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/isthmus-net/isthmus/control"
	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
	"github.com/isthmus-net/isthmus/control/apiserver"
)

// maxAnswer is the largest message that is taken from a daemon, in bytes: the status of 65,535 targets and ENIs.
const maxAnswer = 64 << 20

// connection says which daemon a command asks, and as whom.
type connection struct {
	socket        string
	address       string // in place of socket: TCP with TLS
	cert, key, ca string // files
	as            string // account; empty: the caller himself
}

// addFlags adds the flags of a connection to a command's.
func (c *connection) addFlags(f *pflag.FlagSet) {
	f.StringVar(&c.socket, "socket", cmp.Or(os.Getenv("ISTHMUS_SOCKET"), control.DefaultSocket), "unix `path` of the daemon (environment: ISTHMUS_SOCKET)")
	f.StringVar(&c.address, "address", "", "`host:port` of the daemon, in place of the socket; needs --cert, --key and --ca")
	f.StringVar(&c.cert, "cert", "", "`file` with your certificate in PEM, which says who you are")
	f.StringVar(&c.key, "key", "", "`file` with its key in PEM")
	f.StringVar(&c.ca, "ca", "", "`file` with the authorities in PEM that the daemon's certificate may be from")
	f.StringVar(&c.as, "as", "", "act as this `account`, for operators")
}

// dial makes a connection, which connects when it is first asked for something. Close ends it.
func (c *connection) dial() (*grpc.ClientConn, error) {
	target, creds := "unix:"+c.socket, insecure.NewCredentials()
	if c.address != "" {
		var err error
		if creds, err = c.tls(); err != nil {
			return nil, err
		}
		target = "passthrough:" + c.address
	}
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(creds), grpc.WithNoProxy(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswer)),
		grpc.WithUnaryInterceptor(c.unary), grpc.WithStreamInterceptor(c.stream))
	if err != nil {
		return nil, fmt.Errorf("connecting to the daemon: %w", err)
	}
	return conn, nil
}

// tls reads the files that a connection by TCP needs.
func (c *connection) tls() (credentials.TransportCredentials, error) {
	host, _, err := net.SplitHostPort(c.address)
	if err != nil || host == "" {
		return nil, &exitError{exitUsage, fmt.Errorf("--address %s is not HOST:PORT", c.address)}
	}
	if c.cert == "" || c.key == "" || c.ca == "" {
		return nil, &exitError{exitUsage, errors.New("--address needs --cert, --key and --ca: by TCP the daemon knows callers by their certificates")}
	}
	certificate, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err != nil {
		return nil, fmt.Errorf("reading --cert and --key: %w", err)
	}
	authorities, err := os.ReadFile(c.ca)
	if err != nil {
		return nil, fmt.Errorf("reading --ca: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(authorities) {
		return nil, fmt.Errorf("reading --ca: %s has no certificate in PEM", c.ca)
	}
	return credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{certificate}, RootCAs: pool, ServerName: host, MinVersion: tls.VersionTLS13,
	}), nil
}

// acting is the context of a call as the account that the caller acts as.
func (c *connection) acting(ctx context.Context) context.Context {
	if c.as == "" {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, apiserver.AsKey, c.as)
}

func (c *connection) unary(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	return invoke(c.acting(ctx), method, req, reply, conn, opts...)
}

func (c *connection) stream(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	return streamer(c.acting(ctx), desc, conn, method, opts...)
}

// use connects to the daemon for as long as f runs, and explains what it says in place of an answer. At names what a field
// of a request comes from, for the error; nil leaves fields as they are.
func (c *connection) use(f func(*grpc.ClientConn) error, at func(path string) string) error {
	conn, err := c.dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	return c.explain(f(conn), at)
}

// listens tries whether anybody takes connections.
func (c *connection) listens() error {
	network, address := "unix", c.socket
	if c.address != "" {
		network, address = "tcp", c.address
	}
	conn, err := net.DialTimeout(network, address, 5*time.Second)
	if err == nil {
		conn.Close()
	}
	return err
}

// unavailable says what to do when no daemon answers.
func (c *connection) unavailable(err error) error {
	switch {
	case c.address != "":
		err = fmt.Errorf("no daemon listens on %s: %w; give its configuration file a tls section with this address, and start it", c.address, err)
	case errors.Is(err, os.ErrPermission):
		err = fmt.Errorf("%s may not be used by you: run the command as root, or as a member of the socket's group", c.socket)
	case errors.Is(err, os.ErrNotExist):
		err = fmt.Errorf("no daemon: there is no socket %s; start one with: isthmus daemon --socket %s", c.socket, c.socket)
	default:
		err = fmt.Errorf("no daemon listens on %s; start one with: isthmus daemon --socket %s", c.socket, c.socket)
	}
	return &exitError{exitNoDaemon, err}
}

// client is what the commands have in common that look into a daemon.
type client struct {
	connection
	output oneOf[bool]
}

// newClient adds the common flags to a command.
func newClient(cmd *cobra.Command) *client {
	c := &client{output: oneOf[bool]{value: "table", of: map[string]bool{"table": false, "json": true}}}
	c.addFlags(cmd.Flags())
	cmd.Flags().VarP(&c.output, "output", "o", "form of the output: "+c.output.names())
	return c
}

// json says whether the output is JSON.
func (c *client) json() bool { return c.output.chosen() }

// ask connects to the daemon for as long as question runs.
func (c *client) ask(question func(apiv1.InspectClient) error) error {
	return c.use(func(conn *grpc.ClientConn) error { return question(apiv1.NewInspectClient(conn)) }, nil)
}
