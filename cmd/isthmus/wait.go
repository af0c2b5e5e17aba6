// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
	"github.com/isthmus-net/isthmus/control/codec"
	"github.com/isthmus-net/isthmus/pkg/vpc/resource"
)

// waiter waits for the dataplane, if --wait says so.
type waiter struct{ most time.Duration }

func waitFlag(cmd *cobra.Command) *waiter {
	w := &waiter{}
	cmd.Flags().DurationVar(&w.most, "wait", 0, "wait until packets follow the change, for at most this `time`")
	cmd.Flags().Lookup("wait").NoOptDefVal = "30s"
	return w
}

// late is the error of what is kept, but not in force.
func (w *waiter) late(what string, err error) error {
	why := fmt.Sprintf("not after %v; \"isthmus status\" says what the dataplane does", w.most)
	if s, ok := status.FromError(err); ok && s.Code() != codes.DeadlineExceeded {
		why = s.Message()
	}
	return &exitError{exitNotApplied, fmt.Errorf("%s is kept, but not in force: %s", what, why)}
}

// revision waits until the dataplane runs a revision.
func (w *waiter) revision(ctx context.Context, c *caller, revision uint64) error {
	if w.most == 0 || revision == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, w.most)
	defer cancel()
	if _, err := c.resources().WaitApplied(ctx, &apiv1.WaitAppliedRequest{Revision: revision}); err != nil {
		return w.late(fmt.Sprintf("revision %d", revision), err)
	}
	return nil
}

// object waits until the dataplane runs a resource as it is, and returns it as it is then.
func (w *waiter) object(ctx context.Context, c *caller, o object) (object, error) {
	if w.most == 0 {
		return o, nil
	}
	if err := w.revision(ctx, c, o.GetMetadata().GetRevision()); err != nil {
		return o, err
	}
	r := ref{kindOf(o.ProtoReflect()), o.GetName()}
	if r.Kind == resource.KindEndpoint {
		revision, err := w.settled(ctx, c, r, func(now object) bool {
			return now == nil || now.(*apiv1.Endpoint).State != apiv1.EndpointState_ENDPOINT_STATE_PENDING
		})
		if err == nil {
			err = w.revision(ctx, c, revision)
		}
		if err != nil {
			return o, err
		}
	}
	o, err := c.get(ctx, r)
	if err != nil {
		return nil, err
	}
	if problem := o.GetMetadata().GetProblem(); problem != "" {
		return o, &exitError{exitNotApplied, fmt.Errorf("%s is kept, but not in force: %s", o.GetName(), problem)}
	}
	return o, nil
}

// gone waits until a deleted resource is not there any more, and packets follow.
func (w *waiter) gone(ctx context.Context, c *caller, r ref) error {
	if w.most == 0 {
		return nil
	}
	revision, err := w.settled(ctx, c, r, func(now object) bool { return now == nil })
	if err != nil {
		return err
	}
	return w.revision(ctx, c, revision)
}

// newest waits until the dataplane runs all there is.
func (w *waiter) newest(ctx context.Context, c *caller) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watch, err := c.resources().Watch(ctx, &apiv1.WatchRequest{Collections: []string{resource.KindAccount.Collection()}})
	if err != nil {
		return err
	}
	for {
		m, err := watch.Recv()
		if err != nil {
			return err
		}
		if m.Synced {
			return w.revision(ctx, c, m.Revision)
		}
	}
}

// settled waits until a resource is as it is to be, and returns the revision that it is so at; nil is one that is not
// there.
func (w *waiter) settled(ctx context.Context, c *caller, r ref, done func(object) bool) (revision uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, w.most)
	defer cancel()
	parent := c.parent()
	if account := accountOf(r.name); account != "" {
		parent = "accounts/" + account
	}
	watch, err := c.resources().Watch(ctx, &apiv1.WatchRequest{Parent: parent, Collections: []string{r.Collection()}})
	if err != nil {
		return 0, err
	}
	var now object
	for {
		m, err := watch.Recv()
		if err != nil {
			return 0, w.late(r.name, err)
		}
		for _, e := range m.Events {
			o := codec.Unwrap(e.Resource).(object)
			if id := idOf(r.name); idOf(o.GetName()) != id && o.GetMetadata().GetUid() != id {
				continue
			}
			if now = o; e.Deleted {
				now = nil
			}
		}
		if m.Synced && done(now) {
			return m.Revision, nil
		}
	}
}
