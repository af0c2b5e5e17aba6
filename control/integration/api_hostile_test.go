// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/isthmus-net/isthmus/bench/fleet"
	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
)

// TestHostileCallersLoseNoPacket has callers do to the API what they can while packets pass: a thousand watch, some of them
// without reading, others send one bad request after another, or bytes that are none. Packets pass, those who mean well are
// served, and nothing is left over.
func TestHostileCallersLoseNoPacket(t *testing.T) {
	existing := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, existing) })
	b := newFleetBed(t, fleet.Fleet{Services: 10, Endpoints: 50, Targets: 100, Waiting: 2}, false)
	b.apply()
	passing := b.stream(b.load(8), 500) // slow enough for two processors that have all this to do under the race detector
	h := &hostility{fleetBed: b}
	ctx, cancel := context.WithCancel(t.Context())
	h.watch(ctx, load(100, 1000, 1000))
	h.flood(ctx, load(20, 80, 2000))
	var took time.Duration
	changes := load(3, 10, 100)
	for n := range changes {
		for _, each := range b.change(n) {
			took = max(took, each)
		}
	}
	eventually(t, patience, func() error {
		if heard, want := h.heard.Load(), h.readers*int64(changes); heard < want {
			return fmt.Errorf("those who watch and read have heard of %d changes, want %d", heard, want)
		}
		return nil
	})
	h.flooding.Wait()
	cancel()
	h.watching.Wait()
	passing.end()
	t.Logf("%d bad requests were refused meanwhile; the slowest good change took %v; load average %s", h.refused.Load(), took, loadAverage())
}

// hostility is callers who mean no good.
type hostility struct {
	*fleetBed
	watching, flooding sync.WaitGroup
	readers            int64
	heard, refused     atomic.Int64
}

// watch has many watch on a few connections. One in ten does not read what it is sent.
func (h *hostility) watch(ctx context.Context, watchers int) {
	h.Helper()
	const each = 100 // of a connection
	for first := 0; first < watchers; first += each {
		c, err := dialAPI(ctx, h.socket)
		h.must(err)
		h.Cleanup(func() { c.conn.Close() })
		for n := range each {
			stream, err := c.Watch(as(ctx, fleet.Consumer), &apiv1.WatchRequest{Collections: []string{"endpoints"}})
			h.must(err)
			if n%10 == 0 {
				continue
			}
			h.readers++
			h.watching.Go(func() {
				for {
					got, err := stream.Recv()
					if err != nil {
						if ctx.Err() == nil {
							h.Errorf("a watch ended: %v", err)
						}
						return
					}
					for _, e := range got.Events {
						if e.Deleted {
							h.heard.Add(1)
						}
					}
				}
			})
		}
	}
}

// flood sends so many bad requests of each kind, one after the other.
func (h *hostility) flood(ctx context.Context, each int) {
	h.Helper()
	c, err := dialAPI(ctx, h.socket)
	h.must(err)
	h.Cleanup(func() { c.conn.Close() })
	for what, bad := range h.badRequests(c) {
		h.flooding.Go(func() {
			for n := range each {
				code, err := bad(ctx, n)
				if status.Code(err) != code {
					h.Errorf("%s: got %v, want %s", what, err, code)
					return
				}
				h.refused.Add(1)
			}
		})
	}
	h.flooding.Go(func() {
		for range each {
			h.garbage(ctx)
		}
	})
}

// badRequests are requests by what is bad about them, each with the answer that it deserves.
func (h *hostility) badRequests(c *apiClient) map[string]func(ctx context.Context, n int) (codes.Code, error) {
	large := strings.Repeat("x", 5<<20)
	strange := &apiv1.ListEndpointsRequest{}
	strange.ProtoReflect().SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 777, protowire.VarintType), 1))
	group := func(text string) *apiv1.SecurityGroup { return &apiv1.SecurityGroup{Vpc: "vpc", Description: text} }
	return map[string]func(ctx context.Context, n int) (codes.Code, error){
		"an unknown field": func(ctx context.Context, _ int) (codes.Code, error) {
			_, err := c.ListEndpoints(as(ctx, fleet.Consumer), strange)
			return codes.InvalidArgument, err
		},
		"too large": func(ctx context.Context, _ int) (codes.Code, error) {
			_, err := c.CreateSecurityGroup(as(ctx, fleet.Consumer), &apiv1.CreateSecurityGroupRequest{SecurityGroup: group(large)})
			return codes.ResourceExhausted, err
		},
		"of another account": func(ctx context.Context, _ int) (codes.Code, error) {
			_, err := c.ListEndpoints(as(ctx, fleet.Provider), &apiv1.ListEndpointsRequest{Parent: "accounts/" + fleet.Consumer})
			return codes.PermissionDenied, err
		},
		"an old etag": func(ctx context.Context, _ int) (codes.Code, error) {
			_, err := c.DeleteEndpoint(as(ctx, fleet.Consumer), &apiv1.DeleteEndpointRequest{Name: fleet.EndpointID(0), Etag: "r1"})
			return codes.Aborted, err
		},
		"another request of the same id": func(ctx context.Context, n int) (codes.Code, error) {
			_, err := c.CreateSecurityGroup(as(ctx, fleet.Consumer), &apiv1.CreateSecurityGroupRequest{
				SecurityGroupId: "once", SecurityGroup: group(fmt.Sprint(n)), RequestId: "once",
			})
			if n == 0 {
				return codes.OK, err
			}
			return codes.InvalidArgument, err
		},
		"a manifest of mistakes": func(ctx context.Context, _ int) (codes.Code, error) {
			m := &apiv1.Manifest{}
			for range 200 {
				m.Vpcs = append(m.Vpcs, &apiv1.VPC{Name: "v", Cidrs: []string{"x"}})
			}
			_, err := c.Apply(as(ctx, fleet.Consumer), &apiv1.ApplyRequest{Manifest: m})
			return codes.InvalidArgument, err
		},
	}
}

// garbage connects and sends what is no request, or nothing at all.
func (h *hostility) garbage(ctx context.Context) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", h.socket)
	if err != nil {
		h.Errorf("connect: %v", err)
		return
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Millisecond))
	conn.Write([]byte("GET / HTTP/1.1\r\n\r\n" + strings.Repeat("\xff", 1<<16)))
	conn.Read(make([]byte, 1<<10))
	h.refused.Add(1)
}
