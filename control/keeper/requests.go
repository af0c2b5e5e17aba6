// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
	"github.com/isthmus-net/isthmus/control/codec"
	"github.com/isthmus-net/isthmus/control/store"
	"github.com/isthmus-net/isthmus/pkg/vpc/resource"
)

const (
	// requestLife is how long a request that comes again has no effect.
	requestLife = 24 * time.Hour
	// sweepDelay is how much longer records may lie around, so that they are deleted together.
	sweepDelay = 10 * time.Minute
	// maxRequests is how many requests of one account are remembered. With more, its oldest are forgotten before their
	// time, so that no account can fill the store.
	maxRequests = 1 << 14
)

// requests knows which requests have had their effect. What they had for an effect is in the store. Who has the keeper's
// turn may use it.
type requests struct {
	known    map[string]*request
	accounts map[string][]*request // the oldest first
}

type request struct {
	key         string // of the record
	account     string
	fingerprint [sha256.Size]byte
	created     time.Time
}

func newRequests() *requests {
	return &requests{known: map[string]*request{}, accounts: map[string][]*request{}}
}

// requestKey is the key of a request's record. The id is what the caller chose, hence hashed.
func requestKey(a resource.Actor, id string) string {
	sum := sha256.Sum256([]byte(a.Principal + "\x00" + id))
	return requestPrefix + a.Account + "/" + hex.EncodeToString(sum[:16])
}

func (q *requests) load(e store.Entry) error {
	record, err := unmarshalRequest(e)
	if err != nil {
		return err
	}
	account, _, _ := strings.Cut(strings.TrimPrefix(e.Key, requestPrefix), "/")
	q.add(&request{e.Key, account, [sha256.Size]byte(record.Fingerprint), record.CreateTime.AsTime()})
	return nil
}

func unmarshalRequest(e store.Entry) (*apiv1.StoredRequest, error) {
	record := &apiv1.StoredRequest{}
	if err := proto.Unmarshal(e.Value, record); err != nil {
		return nil, fmt.Errorf("reading the record of a request: %w", err)
	}
	if len(record.Fingerprint) != sha256.Size || record.CreateTime.CheckValid() != nil {
		return nil, errors.New("reading the record of a request: it has no fingerprint or no time")
	}
	return record, nil
}

// sort puts requests in the order of their time after all have been loaded.
func (q *requests) sort() {
	for _, list := range q.accounts {
		slices.SortFunc(list, func(a, b *request) int { return a.created.Compare(b.created) })
	}
}

func (q *requests) add(r *request) {
	q.remove(q.known[r.key])
	q.known[r.key] = r
	q.accounts[r.account] = append(q.accounts[r.account], r)
}

func (q *requests) remove(r *request) {
	if r == nil {
		return
	}
	delete(q.known, r.key)
	list := q.accounts[r.account]
	i := slices.Index(list, r)
	switch {
	case len(list) == 1:
		delete(q.accounts, r.account)
	case i == 0: // as good as always: the oldest goes first
		q.accounts[r.account] = list[1:]
	default:
		q.accounts[r.account] = slices.Delete(list, i, i+1)
	}
}

// find is a request that still counts.
func (q *requests) find(key string, now time.Time) *request {
	if r := q.known[key]; r != nil && now.Sub(r.created) < requestLife {
		return r
	}
	return nil
}

// expired are requests that no longer count, and those that are too many once the account has another.
func (q *requests) expired(now time.Time, account string) []*request {
	var out []*request
	for name, list := range q.accounts {
		n := 0
		for n < len(list) && now.Sub(list[n].created) >= requestLife {
			n++
		}
		if name == account {
			n = max(n, len(list)+1-maxRequests)
		}
		out = append(out, list[:n]...)
	}
	return out
}

// sweep is when records should be deleted, nil if there are none.
func (q *requests) sweep() *time.Time {
	var first *time.Time
	for _, list := range q.accounts {
		if t := list[0].created.Add(requestLife + sweepDelay); first == nil || t.Before(*first) {
			first = &t
		}
	}
	return first
}

// record is the operation that remembers a request.
func (r *request) record(keys []resource.Key) (store.Op, error) {
	m := &apiv1.StoredRequest{Fingerprint: r.fingerprint[:], CreateTime: timestamppb.New(r.created)}
	for _, k := range keys {
		m.Names = append(m.Names, codec.Name(k))
	}
	data, err := proto.Marshal(m)
	if err != nil {
		return store.Op{}, fmt.Errorf("writing the record of a request: %w", err)
	}
	return store.Op{Key: r.key, Value: data}, nil
}

// replay is the outcome that a request had when it came first.
func (k *Keeper) replay(ctx context.Context, r *request) (Outcome, error) {
	e, err := k.store.Get(ctx, r.key)
	if err != nil {
		return Outcome{}, fmt.Errorf("reading what a request has done: %w", err)
	}
	record, err := unmarshalRequest(e)
	if err != nil {
		return Outcome{}, err
	}
	out := Outcome{Revision: e.Modified, Replayed: true}
	for _, name := range record.Names {
		key, err := parseName(name)
		if err != nil {
			return Outcome{}, fmt.Errorf("reading what a request has done: %w", err)
		}
		out.Keys = append(out.Keys, key)
	}
	return out, nil
}

// parseName is the inverse of codec.Name for a resource of any kind.
func parseName(name string) (resource.Key, error) {
	kind := resource.KindAccount
	if parts := strings.Split(name, "/"); len(parts) == 4 {
		kind, _ = resource.KindOf(parts[2])
	}
	return codec.ParseName(name, kind, "")
}

// mismatch says that a request_id was used for two requests.
func mismatch() error {
	return &resource.Error{
		Code: resource.InvalidArgument, Reason: "IDEMPOTENT_PARAMETER_MISMATCH", EC2: "IdempotentParameterMismatch", Field: "request_id",
		Problem: "was used for another request in the last 24 hours; choose a new one for each request that is not a repetition",
	}
}
