// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
)

func offersCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "offers [SERVICE_NAME]",
		Short: "List the services that you may create endpoints for",
		Args:  cobra.MaximumNArgs(1),
	}
	a := newAPI(cmd, formTable, formYAML, formJSON)
	cmd.ValidArgsFunction = completeOffers(a)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.call(func(c *caller) error {
			list, err := c.offers(cmd.Context(), c.parent(), args...)
			if err != nil {
				return err
			}
			return a.print(cmd, &apiv1.ListOffersResponse{Offers: list}, func() {
				t := newTable(cmd.OutOrStdout(), "SERVICE NAME", "TYPE", "OWNER", "ACCEPTANCE", "COMMON ZONES")
				for _, o := range list {
					t.row(o.ServiceName, enumText(o.Type), o.Owner, o.AcceptanceRequired, strings.Join(o.ZoneIds, ","))
				}
				t.done()
			})
		}, nil)
	}
	return cmd
}

// offers lists what an account may use; with a name, that service alone.
func (c *caller) offers(ctx context.Context, parent string, service ...string) (all []*apiv1.Offer, err error) {
	r := &apiv1.ListOffersRequest{Parent: parent, PageSize: 1000}
	if len(service) > 0 {
		r.ServiceName = service[0]
	}
	for {
		page, err := c.endpoints().ListOffers(ctx, r)
		if err != nil {
			return nil, err
		}
		all = append(all, page.Offers...)
		if r.PageToken = page.NextPageToken; r.PageToken == "" {
			return all, nil
		}
	}
}
