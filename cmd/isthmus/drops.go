// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"github.com/spf13/cobra"

	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
)

func dropsCommand() *cobra.Command {
	req := &apiv1.DropsRequest{}
	all := false
	cmd := &cobra.Command{
		Use:   "drops",
		Short: "Count the packets that went no further, by reason",
		Args:  cobra.NoArgs,
	}
	c := newClient(cmd)
	cmd.Flags().BoolVar(&req.ByEni, "by-eni", false, "also count for each ENI")
	cmd.Flags().BoolVar(&all, "all", false, "list reasons without packets, too")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return c.ask(func(daemon apiv1.InspectClient) error {
			r, err := daemon.Drops(cmd.Context(), req)
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if c.json() {
				return printJSON(out, r, "  ")
			}
			t := newTable(out, "PACKETS", "REASON", "WHAT IT MEANS")
			for _, d := range r.Drops {
				if all || d.Packets > 0 {
					t.row(d.Packets, d.Reason, d.Sentence)
				}
			}
			t.done()
			if req.ByEni {
				fmt.Fprintln(out)
				t := newTable(out, "PACKETS", "REASON", "ENI OF", "ROLE", "VPC", "ADDRESS")
				for _, d := range r.Enis {
					t.row(d.Packets, d.Reason, d.Owner, d.Role, d.VpcId, d.Address)
				}
				t.done()
			}
			return nil
		})
	}
	return cmd
}
