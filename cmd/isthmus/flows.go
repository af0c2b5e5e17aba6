// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
)

func flowsCommand() *cobra.Command {
	req := &apiv1.FlowsRequest{}
	cmd := &cobra.Command{
		Use:   "flows",
		Short: "List the connections and inspected flows that pass now",
		Long: "List the connections that pass now, and the flows that appliances inspect, in no order. JSON has one object a line,\n" +
			"with \"inspection\" set for the latter.",
		Args: cobra.NoArgs,
	}
	c := newClient(cmd)
	cmd.Flags().StringVar(&req.EndpointId, "endpoint", "", "only flows through the endpoint with this `id`")
	cmd.Flags().StringVar(&req.Target, "target", "", "only flows to the target or appliance with this `address`, with or without a port")
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
			return printFlows(cmd.OutOrStdout(), func(do func(*apiv1.Flow) error) error { return each(stream, first, do) })
		})
	}
	return cmd
}

// printFlows writes a table of connections and, if there are any, one of inspected flows.
func printFlows(w io.Writer, all func(func(*apiv1.Flow) error) error) error {
	connections := newTable(w, "ENDPOINT", "ZONE", "CLIENT", "ENDPOINT ADDRESS", "NODE ADDRESS", "TARGET",
		"STATE", "PROXY", "IDLE", "BYTES OUT", "BYTES IN", "WORKER")
	var below bytes.Buffer
	inspected := newTable(&below, "PROTOCOL", "END", "ENDPOINT", "BYTES", "OTHER END", "ENDPOINT", "BYTES",
		"APPLIANCE", "NODE ADDRESS", "COOKIE", "KIND", "STATE", "IDLE", "WORKER")
	connected, looked := 0, 0
	err := all(func(f *apiv1.Flow) error {
		if f.Inspection != nil && len(f.Inspection.Ends) == 2 {
			looked++
			a, b := f.Inspection.Ends[0], f.Inspection.Ends[1]
			inspected.row(cmp.Or(f.Protocol, "any"), a.Address, a.EndpointId, a.Bytes, b.Address, b.EndpointId, b.Bytes,
				f.Target, f.NodeAddress, f.Inspection.Cookie, f.Inspection.Kind, f.State, f.Idle.AsDuration(), f.Worker)
			return nil
		}
		connected++
		connections.row(flowOwner(f), f.ZoneId, f.Client, f.EndpointAddress, f.NodeAddress, f.Target,
			f.State, f.Proxy, f.Idle.AsDuration(), f.BytesOut, f.BytesIn, f.Worker)
		return nil
	})
	inspected.done()
	switch {
	case looked == 0:
		connections.done()
	case connected == 0:
		below.WriteTo(w)
	default:
		connections.done()
		fmt.Fprintln(w)
		below.WriteTo(w)
	}
	return err
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
