// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
)

// endpointUID is what endpoints are named by to providers, who do not see more of them.
var endpointUID = regexp.MustCompile(`^vpce-[0-9a-f]{17}$`)

func connectionsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "connections [SERVICE]",
		Short:   "List the endpoints that ask for your services or use them",
		Example: "  isthmus connections site",
		Args:    cobra.MaximumNArgs(1),
	}
	a := newAPI(cmd, formTable, formYAML, formJSON)
	service, _ := kindNamed("endpoint-service")
	cmd.ValidArgsFunction = completeNames(a, service)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.call(func(c *caller) error {
			list, err := c.connections(cmd.Context(), args...)
			if err != nil {
				return err
			}
			return a.print(cmd, &apiv1.ListConnectionsResponse{Connections: list}, func() { printConnections(cmd.OutOrStdout(), list) })
		}, nil)
	}
	return cmd
}

// connections lists those of one service or, without one, of all that the account owns.
func (c *caller) connections(ctx context.Context, service ...string) (all []*apiv1.Connection, err error) {
	r := &apiv1.ListConnectionsRequest{Parent: c.parent(), PageSize: 1000}
	if len(service) > 0 {
		if r.Parent, err = c.serviceName(ctx, service[0]); err != nil {
			return nil, err
		}
	}
	for {
		page, err := c.endpoints().ListConnections(ctx, r)
		if err != nil {
			return nil, err
		}
		all = append(all, page.Connections...)
		if r.PageToken = page.NextPageToken; r.PageToken == "" {
			return all, nil
		}
	}
}

// serviceName is the full name of a service.
func (c *caller) serviceName(ctx context.Context, name string) (string, error) {
	k, err := kindNamed("endpoint-service")
	if err != nil {
		return "", err
	}
	o, err := c.get(ctx, ref{k, name})
	if err != nil {
		return "", err
	}
	return o.GetName(), nil
}

func printConnections(w io.Writer, list []*apiv1.Connection) {
	t := newTable(w, "ENDPOINT", "STATE", "TYPE", "OWNER", "PRINCIPAL", "SERVICE", "CREATED")
	for _, c := range list {
		t.row(c.EndpointUid, enumText(c.State), enumText(c.Type), c.Owner, c.Principal, idOf(c.Service), timeText(c.CreateTime))
	}
	t.done()
}

// decision is accept or reject.
type decision struct {
	word, long string
	call       func(context.Context, *caller, string, []string, string) ([]*apiv1.Connection, uint64, error)
	waiting    func(apiv1.EndpointState) bool // which --all means
	all        string
}

func acceptCommand() *cobra.Command {
	return decisionCommand(decision{
		word: "accept", long: "Let endpoints in that wait for it, or were rejected.",
		call: func(ctx context.Context, c *caller, service string, uids []string, id string) ([]*apiv1.Connection, uint64, error) {
			r, err := c.endpoints().AcceptConnections(ctx, &apiv1.AcceptConnectionsRequest{Service: service, EndpointUids: uids, RequestId: id})
			return r.GetConnections(), r.GetRevision(), err
		},
		waiting: func(s apiv1.EndpointState) bool { return s == apiv1.EndpointState_ENDPOINT_STATE_PENDING_ACCEPTANCE },
		all:     "all that wait",
	})
}

func rejectCommand() *cobra.Command {
	return decisionCommand(decision{
		word: "reject", long: "Refuse endpoints that wait, and end what passes through those that are available.",
		call: func(ctx context.Context, c *caller, service string, uids []string, id string) ([]*apiv1.Connection, uint64, error) {
			r, err := c.endpoints().RejectConnections(ctx, &apiv1.RejectConnectionsRequest{Service: service, EndpointUids: uids, RequestId: id})
			return r.GetConnections(), r.GetRevision(), err
		},
		waiting: func(s apiv1.EndpointState) bool {
			return slices.Contains([]apiv1.EndpointState{apiv1.EndpointState_ENDPOINT_STATE_PENDING_ACCEPTANCE,
				apiv1.EndpointState_ENDPOINT_STATE_PENDING, apiv1.EndpointState_ENDPOINT_STATE_AVAILABLE}, s)
		},
		all: "all that wait or are in",
	})
}

func decisionCommand(d decision) *cobra.Command {
	cmd := &cobra.Command{
		Use:   d.word + " [SERVICE] {ENDPOINT... | --all}",
		Short: strings.TrimSuffix(d.long, "."),
		Long: d.long + " Endpoints are named by their uids, as \"isthmus connections\" lists them; the service\n" +
			"may be left out where they say which it is.",
		Example: fmt.Sprintf("  isthmus %s vpce-0123456789abcdef0 --wait\n  isthmus %s site --all", d.word, d.word),
	}
	a := newAPI(cmd, formTable, formYAML, formJSON)
	h, w := changeFlags(cmd, false), waitFlag(cmd)
	all := cmd.Flags().Bool("all", false, d.all+" of the service")
	cmd.ValidArgsFunction = completeConnections(a)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		service, uids, err := d.arguments(args, *all)
		if err != nil {
			return err
		}
		return a.call(func(c *caller) error {
			list, err := d.run(cmd.Context(), c, w, service, uids, h.requestID)
			if err != nil {
				return err
			}
			return a.print(cmd, &apiv1.ListConnectionsResponse{Connections: list}, func() { printConnections(cmd.OutOrStdout(), list) })
		}, nil)
	}
	return cmd
}

// arguments tells the service from endpoints.
func (d decision) arguments(args []string, all bool) (service []string, uids []string, err error) {
	for i, arg := range args {
		switch {
		case endpointUID.MatchString(arg):
			uids = append(uids, arg)
		case i == 0:
			service = []string{arg}
		default:
			return nil, nil, &exitError{exitUsage, fmt.Errorf("%q is not the uid of an endpoint; \"isthmus connections\" lists them", arg)}
		}
	}
	if (len(uids) > 0) == all || all && service == nil {
		return nil, nil, &exitError{exitUsage, errors.New("name endpoints by their uids, or a service and --all; \"isthmus connections\" lists them")}
	}
	return service, uids, nil
}

// run decides about endpoints, service by service.
func (d decision) run(ctx context.Context, c *caller, w *waiter, service, uids []string, id string) (decided []*apiv1.Connection, err error) {
	services, of, err := d.sort(ctx, c, service, uids)
	if err != nil {
		return nil, err
	}
	for _, name := range services {
		list, revision, err := d.call(ctx, c, name, of[name], id)
		if err != nil {
			return nil, err
		}
		if err := w.revision(ctx, c, revision); err != nil {
			return nil, err
		}
		if list, err = w.connections(ctx, c, name, list); err != nil {
			return nil, err
		}
		decided = append(decided, list...)
	}
	return decided, nil
}

// sort finds out which endpoints are meant, and of which services.
func (d decision) sort(ctx context.Context, c *caller, service, uids []string) (services []string, of map[string][]string, err error) {
	if len(service) > 0 && len(uids) > 0 {
		name, err := c.serviceName(ctx, service[0])
		return []string{name}, map[string][]string{name: uids}, err
	}
	known, err := c.connections(ctx, service...)
	if err != nil {
		return nil, nil, err
	}
	of = map[string][]string{}
	missing := slices.Clone(uids)
	for _, k := range known {
		if uids == nil && !d.waiting(k.State) || uids != nil && !slices.Contains(uids, k.EndpointUid) {
			continue
		}
		if of[k.Service] == nil {
			services = append(services, k.Service)
		}
		of[k.Service] = append(of[k.Service], k.EndpointUid)
		missing = slices.DeleteFunc(missing, func(uid string) bool { return uid == k.EndpointUid })
	}
	if len(missing) > 0 {
		return nil, nil, &exitError{exitNotFound, fmt.Errorf("none of your services has the endpoint %s; \"isthmus connections\" lists them", missing[0])}
	}
	return services, of, nil
}

// glance is how often connections are looked at that are about to become available: providers cannot watch endpoints.
const glance = 20 * time.Millisecond

// connections are the connections of a service once none of them is pending any more, which is right after the dataplane runs
// them.
func (w *waiter) connections(ctx context.Context, c *caller, service string, list []*apiv1.Connection) ([]*apiv1.Connection, error) {
	if w.most == 0 {
		return list, nil
	}
	ctx, cancel := context.WithTimeout(ctx, w.most)
	defer cancel()
	for {
		now, err := c.connections(ctx, service)
		if err != nil {
			return nil, err
		}
		now = slices.DeleteFunc(now, func(n *apiv1.Connection) bool {
			return !slices.ContainsFunc(list, func(l *apiv1.Connection) bool { return l.EndpointUid == n.EndpointUid })
		})
		if !slices.ContainsFunc(now, func(n *apiv1.Connection) bool { return n.State == apiv1.EndpointState_ENDPOINT_STATE_PENDING }) {
			return now, w.newest(ctx, c)
		}
		select {
		case <-time.After(glance):
		case <-ctx.Done():
			return nil, w.late("the decision about "+service, ctx.Err())
		}
	}
}
