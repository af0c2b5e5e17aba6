// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
	"github.com/isthmus-net/isthmus/control/codec"
)

// watcher reads a stream of changes.
type watcher struct {
	t      testing.TB
	stream grpc.ServerStreamingClient[apiv1.WatchResponse]
	stop   context.CancelFunc
	last   uint64 // to resume from
}

func (c *client) watch(t testing.TB, r *apiv1.WatchRequest) *watcher {
	t.Helper()
	ctx, cancel := context.WithTimeout(c.ctx, patience)
	t.Cleanup(cancel)
	stream, err := c.Watch(ctx, r)
	if err != nil {
		t.Fatal(err)
	}
	return &watcher{t: t, stream: stream, stop: cancel}
}

// next reads one message: "+name" for what is there, "-name" for what is gone, without the account.
func (w *watcher) next() (events []string, synced bool) {
	w.t.Helper()
	got, err := w.stream.Recv()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, e := range got.Events {
		sign := "+"
		if e.Deleted {
			sign = "-"
		}
		parts := strings.SplitN(codec.Unwrap(e.Resource).(message).GetName(), "/", 3)
		events = append(events, sign+parts[len(parts)-1])
	}
	w.last = got.Revision
	return events, got.Synced
}

// until reads until everything was sent.
func (w *watcher) until() (all []string) {
	w.t.Helper()
	for {
		events, synced := w.next()
		if all = append(all, events...); synced {
			return all
		}
	}
}

func (w *watcher) want(events ...string) {
	w.t.Helper()
	if diff := cmp.Diff(events, w.until()); diff != "" {
		w.t.Fatal(diff)
	}
}

func (b *bed) makeVPC(c *client, id string) {
	b.t.Helper()
	_, err := c.CreateVPC(c.ctx, &apiv1.CreateVPCRequest{VpcId: id, Vpc: &apiv1.VPC{Cidrs: []string{"10.0.0.0/16"}}})
	b.must(err)
}

func (b *bed) removeVPC(c *client, id string) {
	b.t.Helper()
	_, err := c.DeleteVPC(c.ctx, &apiv1.DeleteVPCRequest{Name: id})
	b.must(err)
}

func TestWatch(t *testing.T) {
	b := newBed(t)
	c, p, op := b.as(consumer), b.as(provider), b.as(root)
	b.makeVPC(c, "one")
	b.makeVPC(p, "theirs")
	vpcs := []string{"vpcs"}
	w := c.watch(t, &apiv1.WatchRequest{Collections: vpcs})
	w.want("+vpcs/one")
	all := op.watch(t, &apiv1.WatchRequest{Collections: vpcs})
	all.want("+vpcs/theirs", "+vpcs/one")
	b.makeVPC(p, "theirs-too") // is not for the consumer to see
	b.makeVPC(c, "two")
	w.want("+vpcs/two")
	all.want("+vpcs/theirs-too")
	all.want("+vpcs/two")
	b.removeVPC(c, "one")
	w.want("-vpcs/one")
	resume := w.last
	w.stop()
	b.makeVPC(c, "three")
	b.removeVPC(c, "two")
	again := c.watch(t, &apiv1.WatchRequest{Collections: vpcs, Revision: resume})
	if events, synced := again.next(); len(events) != 0 || !synced || again.last != resume {
		t.Errorf("resumed with %v", events)
	}
	again.want("+vpcs/three")
	again.want("-vpcs/two")
	for _, bad := range []*apiv1.WatchRequest{{Collections: []string{"vpc"}}, {Parent: "consumer"}} {
		stream, err := c.Watch(c.ctx, bad)
		b.must(err)
		_, err = stream.Recv()
		refused(t, err, codes.InvalidArgument, "INVALID_REQUEST")
	}
}

func TestWatchOfWhatIsForgotten(t *testing.T) {
	b := newBed(t)
	c := b.as(consumer)
	b.makeVPC(c, "one")
	for _, revision := range []uint64{1 << 40, 1} {
		stream, err := c.Watch(c.ctx, &apiv1.WatchRequest{Revision: revision})
		b.must(err)
		for err == nil {
			_, err = stream.Recv()
			if revision == 1 && err == nil { // still known until the keeper is opened again
				b.stop()
				b.start()
				c = b.as(consumer)
				stream, err = c.Watch(c.ctx, &apiv1.WatchRequest{Revision: revision})
				b.must(err)
				revision = 0
			}
		}
		refused(t, err, codes.OutOfRange, "")
	}
}

func TestWatchersOfQuietAccountsAreToldTheRevision(t *testing.T) {
	b := newBed(t)
	c, p := b.as(consumer), b.as(provider)
	w := c.watch(t, &apiv1.WatchRequest{Collections: []string{"vpcs"}})
	w.want()
	first := w.last
	for i := range progressAfter {
		id := fmt.Sprintf("v%d", i)
		b.makeVPC(p, id)
		b.removeVPC(p, id)
	}
	w.want()
	if w.last <= first {
		t.Errorf("the revision was %d and is %d", first, w.last)
	}
}

// Whoever resumes in the middle of a large transaction gets all of it again.
func TestPartsOfTransactions(t *testing.T) {
	b := newBed(t)
	op := b.as(root)
	w := op.watch(t, &apiv1.WatchRequest{Collections: []string{"targetGroups"}})
	w.want()
	before := w.last
	m := manyResources(200, 1)
	for _, g := range m.TargetGroups {
		for i := range 40 {
			if g.Metadata == nil {
				g.Metadata = &apiv1.Metadata{Tags: map[string]string{}}
			}
			g.Metadata.Tags[fmt.Sprintf("key-%d", i)] = strings.Repeat("x", 200)
		}
	}
	_, err := op.Apply(op.ctx, &apiv1.ApplyRequest{Manifest: m})
	b.must(err)
	n, parts := 0, 0
	for synced := false; !synced; parts++ {
		var events []string
		events, synced = w.next()
		n += len(events)
		if !synced && w.last != before {
			t.Errorf("part %d may be resumed from %d, not from %d", parts, w.last, before)
		}
	}
	if n != 200 || parts < 2 {
		t.Errorf("%d events in %d parts", n, parts)
	}
	again := op.watch(t, &apiv1.WatchRequest{Collections: []string{"targetGroups"}})
	if got := again.until(); len(got) != 200 {
		t.Errorf("%d at first", len(got))
	}
}

func TestWatchersAreLimited(t *testing.T) {
	b := newBed(t, func(o *Options) { o.MaxWatches = 2 })
	c := b.as(consumer)
	first := c.watch(t, &apiv1.WatchRequest{})
	first.until()
	c.watch(t, &apiv1.WatchRequest{}).until()
	over, err := c.Watch(c.ctx, &apiv1.WatchRequest{})
	b.must(err)
	_, err = over.Recv()
	refused(t, err, codes.ResourceExhausted, "")
	b.as(provider).watch(t, &apiv1.WatchRequest{}).until() // another caller's are counted by themselves
	first.stop()
	for { // the server learns of it when it learns of it
		stream, err := c.Watch(c.ctx, &apiv1.WatchRequest{})
		b.must(err)
		if _, err = stream.Recv(); err == nil {
			return
		}
		refused(t, err, codes.ResourceExhausted, "")
	}
}

// A thousand watchers see everything; others that do not read hold up nobody and cost nothing that grows.
func TestAThousandWatchersAndSomeThatDoNotRead(t *testing.T) {
	const fast, slow = 900, 100
	b := newBed(t)
	c := b.as(consumer)
	writer := b.dial(UnixPeer{UID: consumer}) // the watchers' connection has as many streams as it may
	for range slow {
		c.watch(t, &apiv1.WatchRequest{}) // never read
	}
	watchers := make([]*watcher, fast)
	for i := range watchers {
		watchers[i] = c.watch(t, &apiv1.WatchRequest{Collections: []string{"vpcs"}})
		watchers[i].want()
	}
	const changes = 10
	for i := range changes {
		id := fmt.Sprintf("v%d", i)
		b.makeVPC(writer, id)
		b.removeVPC(writer, id)
	}
	var wait sync.WaitGroup
	for _, w := range watchers {
		wait.Go(func() {
			for i := range changes {
				for _, sign := range []string{"+", "-"} {
					got, err := w.stream.Recv()
					if err != nil || len(got.Events) != 1 {
						t.Errorf("change %s%d: %v, %v", sign, i, got, err)
						return
					}
				}
			}
		})
	}
	wait.Wait()
}

func TestStoppingEndsStreams(t *testing.T) {
	b := newBed(t)
	c := b.as(consumer)
	w := c.watch(t, &apiv1.WatchRequest{})
	w.until()
	b.dataplane.mu.Lock()
	b.dataplane.block = make(chan struct{})
	b.dataplane.mu.Unlock()
	b.makeVPC(c, "one")
	waits := make(chan error, 1)
	go func() {
		_, err := c.WaitApplied(c.ctx, &apiv1.WaitAppliedRequest{Revision: b.keeper.Status().Desired})
		waits <- err
	}()
	w.until()
	b.server.Close()
	_, err := w.stream.Recv()
	refused(t, err, codes.Unavailable, "")
	refused(t, <-waits, codes.Unavailable, "")
	close(b.dataplane.block)
}

func TestWaitApplied(t *testing.T) {
	b := newBed(t)
	c := b.as(consumer)
	b.makeVPC(c, "one")
	revision := b.keeper.Status().Desired
	got, err := c.WaitApplied(c.ctx, &apiv1.WaitAppliedRequest{Revision: revision})
	b.must(err)
	if got.AppliedRevision < revision {
		t.Errorf("waited for %d, got %d", revision, got.AppliedRevision)
	}
	_, err = c.WaitApplied(c.ctx, &apiv1.WaitAppliedRequest{Revision: revision + 1})
	refused(t, err, codes.OutOfRange, "")
	b.dataplane.mu.Lock()
	b.dataplane.refuse = errors.New("no such namespace")
	b.dataplane.mu.Unlock()
	b.makeVPC(c, "two")
	_, err = c.WaitApplied(c.ctx, &apiv1.WaitAppliedRequest{Revision: b.keeper.Status().Desired})
	refused(t, err, codes.FailedPrecondition, "")
	if text := status.Convert(err).Message(); !strings.Contains(text, "no such namespace") {
		t.Errorf("told %q", text)
	}
	v, err := c.GetVPC(c.ctx, &apiv1.GetVPCRequest{Name: "two"})
	b.must(err)
	if v.Metadata.AppliedRevision >= v.Metadata.Revision || !strings.Contains(v.Metadata.Problem, "no such namespace") {
		t.Errorf("a VPC that is not applied: %v", v.Metadata)
	}
}

// A watcher that does not read is overtaken by the log and told so when it reads again.
func TestASlowWatcherIsOvertaken(t *testing.T) {
	b := newBed(t)
	op := b.as(root)
	slow := b.dial(UnixPeer{UID: consumer}, grpc.WithInitialWindowSize(1<<16), grpc.WithInitialConnWindowSize(1<<16))
	w := slow.watch(t, &apiv1.WatchRequest{})
	w.until()
	tags := map[string]string{}
	for i := range 10 {
		tags[fmt.Sprintf("key-%d", i)] = strings.Repeat("x", 200)
	}
	for i := range 4500 {
		tags["key-0"] = fmt.Sprint(i)
		_, err := op.UpdateAccount(op.ctx, &apiv1.UpdateAccountRequest{
			Account: &apiv1.Account{Name: "accounts/" + consumerAccount, Metadata: &apiv1.Metadata{Tags: tags}},
		})
		b.must(err)
	}
	n := 0
	var err error
	for err == nil {
		_, err = w.stream.Recv()
		n++
	}
	refused(t, err, codes.OutOfRange, "")
	if n > 1000 {
		t.Errorf("%d messages waited for a watcher that did not read", n)
	}
}
