// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"io"

	"github.com/spf13/cobra"

	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
)

func flowsCommand() *cobra.Command {
	req := &apiv1.FlowsRequest{}
	cmd := &cobra.Command{
		Use:   "flows",
		Short: "List the connections that pass now",
		Long:  "List the connections that pass now, in no order. JSON has one object a line.",
		Args:  cobra.NoArgs,
	}
	c := newClient(cmd)
	cmd.Flags().StringVar(&req.EndpointId, "endpoint", "", "only connections of the endpoint with this `id`")
	cmd.Flags().StringVar(&req.Target, "target", "", "only connections to this `address`, with or without a port")
	cmd.Flags().Uint64Var(&req.Limit, "limit", 0, "list at most so many (default: all)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return c.ask(func(daemon apiv1.InspectClient) error {
			stream, err := daemon.Flows(cmd.Context(), req)
			if err != nil {
				return err
			}
			first, err := stream.Recv()
			if err != nil && !errors.Is(err, io.EOF) {
				return err
			}
			if c.json() {
				return each(stream, first, func(f *apiv1.Flow) error { return printJSON(cmd.OutOrStdout(), f, "") })
			}
			t := newTable(cmd.OutOrStdout(), "ENDPOINT", "ZONE", "CLIENT", "ENDPOINT ADDRESS", "NODE ADDRESS", "TARGET",
				"STATE", "PROXY", "IDLE", "BYTES OUT", "BYTES IN", "WORKER")
			defer t.done()
			return each(stream, first, func(f *apiv1.Flow) error {
				t.row(flowOwner(f), f.ZoneId, f.Client, f.EndpointAddress, f.NodeAddress, f.Target,
					f.State, f.Proxy, f.Idle.AsDuration(), f.BytesOut, f.BytesIn, f.Worker)
				return nil
			})
		})
	}
	return cmd
}

// flowOwner names whose connection it is.
func flowOwner(f *apiv1.Flow) string {
	if f.EndpointId == "" {
		return "(health check)"
	}
	return f.EndpointId
}

// each calls do with the flows of a stream, of which the first message has been received; nil is a stream without any.
func each(stream apiv1.Inspect_FlowsClient, m *apiv1.FlowsResponse, do func(*apiv1.Flow) error) error {
	for m != nil {
		for _, f := range m.Flows {
			if err := do(f); err != nil {
				return err
			}
		}
		var err error
		if m, err = stream.Recv(); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
	}
	return nil
}
