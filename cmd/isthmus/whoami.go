// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"

	"github.com/spf13/cobra"

	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
)

func whoamiCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "whoami",
		Short: "Say who you are to the daemon",
		Args:  cobra.NoArgs,
	}
	a := newAPI(cmd, formTable, formYAML, formJSON)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return a.call(func(c *caller) error {
			r, err := c.resources().WhoAmI(cmd.Context(), &apiv1.WhoAmIRequest{})
			if err != nil {
				return err
			}
			return a.print(cmd, r, func() {
				d := newDetails(cmd.OutOrStdout())
				d.line("Account", cmp.Or(r.Account, "none"))
				d.line("Principal", r.Principal)
				d.line("Operator", fmt.Sprint(r.Operator))
				d.done()
			})
		}, nil)
	}
	return cmd
}
