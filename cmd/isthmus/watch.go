// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
	"github.com/isthmus-net/isthmus/control/codec"
)

func watchCommand() *cobra.Command {
	r := &apiv1.WatchRequest{}
	cmd := &cobra.Command{
		Use:   "watch [KIND...]",
		Short: "Show resources, and then what changes",
		Long: "Show the resources there are, and then every change, as long as the daemon runs. Each line begins with the revision\n" +
			"that a later watch can go on from. JSON has one object a line.\n\n" + shortKinds(),
		Example: "  isthmus watch endpoints\n  isthmus watch --revision 42 -o json",
	}
	a := newAPI(cmd, formTable, formJSON)
	once := cmd.Flags().Bool("once", false, "end when everything there is has been shown")
	cmd.Flags().Uint64Var(&r.Revision, "revision", 0, "show only what has changed after this `revision`")
	cmd.ValidArgsFunction = completeKinds
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		for _, word := range args {
			k, err := kindNamed(word)
			if err != nil {
				return err
			}
			r.Collections = append(r.Collections, k.Collection())
		}
		return a.call(func(c *caller) error {
			r.Parent = c.parent()
			before := r.Revision == 0 // what is sent was there before
			return watch(cmd.Context(), c, r, *once, func(m *apiv1.WatchResponse) error {
				if a.form() == formJSON {
					return printJSON(cmd.OutOrStdout(), m, "")
				}
				printChanges(cmd.OutOrStdout(), m, before)
				before = before && !m.Synced
				return nil
			})
		}, nil)
	}
	return cmd
}

// watch shows what a stream sends. Its error says how to go on.
func watch(ctx context.Context, c *caller, r *apiv1.WatchRequest, once bool, show func(*apiv1.WatchResponse) error) error {
	stream, err := c.resources().Watch(ctx, r)
	if err != nil {
		return err
	}
	var last uint64
	for {
		m, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case status.Code(err) == codes.Unavailable && last > 0:
			return &exitError{exitNoDaemon, fmt.Errorf("the daemon has gone; go on with: isthmus watch --revision %d", last)}
		case err != nil:
			return err
		}
		if err := show(m); err != nil {
			return err
		}
		if last = m.Revision; m.Synced && once {
			return nil
		}
	}
}

// printChanges writes a line for each change.
func printChanges(w io.Writer, m *apiv1.WatchResponse, before bool) {
	for _, e := range m.Events {
		o := codec.Unwrap(e.Resource).(object)
		meta := o.GetMetadata()
		word := "changed"
		switch {
		case e.Deleted:
			word = "deleted"
		case before:
			word = "exists"
		case meta.GetCreateTime().AsTime().Equal(meta.GetUpdateTime().AsTime()):
			word = "created"
		}
		line := fmt.Sprintf("%-8d %-8s %-16s %s", m.Revision, word, kindOf(o.ProtoReflect()).word, o.GetName())
		if endpoint, ok := o.(*apiv1.Endpoint); ok {
			line += " " + enumText(endpoint.State)
		}
		if meta.GetProblem() != "" {
			line += ": " + meta.GetProblem()
		}
		fmt.Fprintln(w, line)
	}
}
