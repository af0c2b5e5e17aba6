// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/isthmus-net/isthmus/control"
	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
)

// maxAnswer is the largest message that is taken from a daemon, in bytes: the status of 65,535 targets and ENIs.
const maxAnswer = 64 << 20

// client is what the commands that ask a daemon have in common.
type client struct {
	socket string
	output oneOf[bool]
}

// newClient adds the common flags to a command.
func newClient(cmd *cobra.Command) *client {
	c := &client{output: oneOf[bool]{value: "table", of: map[string]bool{"table": false, "json": true}}}
	cmd.Flags().StringVar(&c.socket, "socket", control.DefaultSocket, "unix `path` of the daemon")
	cmd.Flags().VarP(&c.output, "output", "o", "form of the output: "+c.output.names())
	return c
}

// json says whether the output is JSON.
func (c *client) json() bool { return c.output.chosen() }

// inspectClient asks one daemon.
type inspectClient struct {
	apiv1.InspectClient
	conn *grpc.ClientConn
}

// dialInspect makes a client of the daemon at a socket. It connects when it is first asked; Close ends it.
func dialInspect(socket string) (*inspectClient, error) {
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswer)))
	if err != nil {
		return nil, fmt.Errorf("connecting to the daemon: %w", err)
	}
	return &inspectClient{apiv1.NewInspectClient(conn), conn}, nil
}

// Close ends the connection.
func (c *inspectClient) Close() error { return c.conn.Close() }

// ask connects to the daemon for as long as question runs.
func (c *client) ask(question func(apiv1.InspectClient) error) error {
	daemon, err := dialInspect(c.socket)
	if err != nil {
		return err
	}
	defer daemon.Close()
	err = question(daemon)
	if status.Code(err) == codes.Unavailable {
		return c.unavailable()
	}
	if s, ok := status.FromError(err); ok && err != nil {
		return errors.New(s.Message())
	}
	return err
}

// unavailable says what to do when no daemon answers.
func (c *client) unavailable() error {
	_, err := os.Stat(c.socket)
	if err == nil {
		// The file mode decides about connecting, which is writing.
		err = syscall.Access(c.socket, 2)
	}
	switch {
	case errors.Is(err, os.ErrPermission):
		err = fmt.Errorf("%s may not be used by you: run the command as root, or as a member of the socket's group", c.socket)
	case errors.Is(err, os.ErrNotExist):
		err = fmt.Errorf("no daemon: there is no socket %s; start one with: isthmus daemon -f STATE.yaml --socket %s", c.socket, c.socket)
	default:
		err = fmt.Errorf("no daemon listens on %s; start one with: isthmus daemon -f STATE.yaml --socket %s", c.socket, c.socket)
	}
	return &exitError{exitNoDaemon, err}
}

// printJSON writes a message with the names of the schema, fields that are zero included. Numbers of 64 bits are
// strings, as everywhere in the JSON of protobuf.
func printJSON(w io.Writer, m proto.Message, indent string) error {
	data, err := protojson.MarshalOptions{UseProtoNames: true, EmitDefaultValues: true}.Marshal(m)
	if err != nil {
		return fmt.Errorf("writing JSON: %w", err)
	}
	// protojson varies its blanks from build to build, so that nobody compares its bytes; scripts do.
	var out bytes.Buffer
	if indent == "" {
		err = json.Compact(&out, data)
	} else {
		err = json.Indent(&out, data, "", indent)
	}
	if err != nil {
		return fmt.Errorf("writing JSON: %w", err)
	}
	out.WriteByte('\n')
	_, err = w.Write(out.Bytes())
	return err
}

// table writes columns.
type table struct{ w *tabwriter.Writer }

// newTable begins a table with the names of its columns.
func newTable(w io.Writer, columns ...any) table {
	t := table{tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)}
	t.row(columns...)
	return t
}

// row writes one line; an empty cell becomes a hyphen, so that columns can be cut.
func (t table) row(cells ...any) {
	for i, cell := range cells {
		if i > 0 {
			fmt.Fprint(t.w, "\t")
		}
		if text := fmt.Sprint(cell); text != "" {
			fmt.Fprint(t.w, text)
		} else {
			fmt.Fprint(t.w, "-")
		}
	}
	fmt.Fprintln(t.w)
}

// done writes what is left.
func (t table) done() { t.w.Flush() }
