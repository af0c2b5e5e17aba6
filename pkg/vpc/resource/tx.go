// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package resource

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Env is what a Tx needs from outside.
type Env struct {
	// Now is when all of the Tx happens.
	Now time.Time
	// NewUID makes an identifier that was never used: the prefix, which ends with a hyphen, and 17 hexadecimal digits.
	NewUID func(prefix string) string
	Actor  Actor
}

// rules is what each kind of resources has: what it is found by, and the rules about it.
type rules interface {
	kind() Kind
	clone() Resource
	// index says what the resource is found by.
	index(*model, *entries)
	// prepare is the part of creating and, with an old one, updating: it replaces UIDs in references by IDs, fills in what
	// the Tx sets, and judges the change.
	prepare(t *Tx, old Resource, c *complaints)
	// form judges the resource by itself.
	form(*complaints)
	// check judges the resource among all others, itself included.
	check(m *model, c *complaints)
	// release judges whether the resource can be deleted.
	release(t *Tx, c *complaints)
}

// Tx is a number of changes to a Set that become true together, or not at all. Nobody but the Tx sees them before
// Set.Commit; a Tx that is dropped has changed nothing. A method that returns an error has changed nothing either, and
// the Tx can go on. Errors are *Error, several of them joined by errors.Join. A Tx is for one goroutine.
type Tx struct {
	model   model
	base    *Set
	commits uint64
	env     Env
	// changed has what was there before of all that the Tx has touched; nil if there was nothing.
	changed tree[Key, Resource]
}

// Begin begins a Tx. Others may read the Set, and begin a Tx, meanwhile; once one is committed the others are stale.
func (s *Set) Begin(env Env) *Tx {
	env.Now = env.Now.Round(0).UTC()
	return &Tx{model: s.model, base: s, commits: s.commits, env: env}
}

// atomically undoes what f did when it fails.
func (t *Tx) atomically(f func() error) error {
	model, changed := t.model, t.changed
	err := f()
	if err != nil {
		t.model, t.changed = model, changed
	}
	return err
}

// put puts a resource in its place, or nil in the place of old.
func (t *Tx) put(old, r Resource, c *complaints) {
	k := c.key
	if taken, by, ok := t.model.replace(old, r); !ok {
		what, rest, _ := strings.Cut(string(taken), " ")
		switch what {
		case "device":
			netns, device, _ := strings.Cut(rest, "\x00")
			c.add(AlreadyExists, "DEVICE_TAKEN", "InvalidParameterValue", "device",
				"%s already has a device %q in %s; choose another name", t.whose(by), device, netns)
		default:
			c.add(AlreadyExists, "UID_TAKEN", "InvalidParameterValue", "metadata.uid", "%q is taken by %s", rest, t.whose(by))
		}
		return
	}
	if _, seen := t.changed.get(k); !seen {
		before, _ := t.base.resources.get(k)
		t.changed = t.changed.put(k, before)
	}
}

// whose names a resource as far as the actor may know.
func (t *Tx) whose(k Key) string {
	if t.env.Actor.Operator || t.env.Actor.Account == k.Account {
		return k.String()
	}
	return "another account"
}

// Get finds a resource as Set.Get does, as the Tx has it.
func (t *Tx) Get(k Key) (Resource, bool) { return t.model.get(k) }

// List lists resources as Set.List does, as the Tx has them.
func (t *Tx) List(kind Kind, account string) []Resource {
	return slices.Collect(t.model.list(kind, account))
}

// settle ends a change of a resource that is in place: it checks it, and does what follows for others.
func (t *Tx) settle(old, n Resource, c *complaints) error {
	if len(c.errs) == 0 {
		n.check(&t.model, c)
		t.room(c)
	}
	if len(c.errs) == 0 {
		t.follow(old, n, c)
	}
	return c.err()
}

// stale says that a resource is not as the caller has read it.
func stale(r Resource, etagRevision uint64) *Error {
	m := r.Metadata()
	if etagRevision == 0 || etagRevision == m.Revision {
		return nil
	}
	return &Error{Code: Aborted, Reason: "ETAG_MISMATCH", EC2: "IncorrectState", Resource: m.Key, Field: "etag",
		Problem: fmt.Sprintf("%s has changed since it was read; read it again", m.Key)}
}

// Update makes a resource what r says, whole; what the Tx sets itself is left out of account. With a revision other than 0
// the resource must be of that. Without a difference nothing is changed.
func (t *Tx) Update(r Resource, etagRevision uint64) (Resource, error) {
	k := r.Metadata().Key
	k.Kind = r.kind()
	old, denied := t.owned(k)
	if denied != nil {
		return nil, denied
	}
	if err := stale(old, etagRevision); err != nil {
		return nil, err
	}
	n := r.clone()
	was, meta := old.Metadata(), n.Metadata()
	meta.Key, meta.UID, meta.Revision = was.Key, was.UID, was.Revision
	meta.Created, meta.Updated = was.Created, t.env.Now
	c := &complaints{key: was.Key}
	err := t.atomically(func() error {
		t.tags(meta, c)
		n.prepare(t, old, c)
		n.form(c)
		if len(c.errs) > 0 {
			return c.err()
		}
		if same(old, n) {
			return nil
		}
		t.put(old, n, c)
		return t.settle(old, n, c)
	})
	if err != nil {
		return nil, err
	}
	n, _ = t.model.resources.get(was.Key)
	return n, nil
}

// Delete deletes a resource. An endpoint that the dataplane may run is Deleting first, until Removed.
func (t *Tx) Delete(k Key, etagRevision uint64) error {
	r, denied := t.owned(k)
	if denied != nil {
		return denied
	}
	if err := stale(r, etagRevision); err != nil {
		return err
	}
	return t.atomically(func() error {
		c := &complaints{key: r.Metadata().Key}
		r.release(t, c)
		if len(c.errs) > 0 {
			return c.err()
		}
		if e, ok := r.(*Endpoint); ok && e.running() {
			t.enter(e, Deleting, "deleted by its owner", c)
			return c.err()
		} else if ok && e.State == Deleting {
			return nil
		}
		t.put(r, nil, c)
		return c.err()
	})
}

// Check judges all that the Tx has changed once more, as it is at the end. It must be called before a commit.
func (t *Tx) Check() error {
	var errs []error
	for _, change := range t.Changes() {
		c := &complaints{key: change.Key}
		if change.New != nil {
			if k := change.Key; k.Kind != KindAccount {
				if _, ok := t.model.resources.get(Key{KindAccount, k.Account, k.Account}); !ok {
					c.absent(KindAccount, "name", k.Account)
				}
			}
			change.New.check(&t.model, c)
		}
		errs = append(errs, c.errs...)
	}
	c := &complaints{}
	t.room(c)
	return errors.Join(append(errs, c.errs...)...)
}

// Change is what a Tx does to one key. Old is nil when it was created, New when it was deleted; where a resource was
// deleted and another one created in its place, their UIDs differ.
type Change struct {
	Key      Key
	Old, New Resource
}

// Changes are those of the Tx so far, at most one a key, sorted by key.
func (t *Tx) Changes() []Change {
	changes := make([]Change, 0, t.changed.len())
	for k, old := range t.changed.all() {
		if r, _ := t.model.resources.get(k); r != old {
			changes = append(changes, Change{k, old, r})
		}
	}
	return changes
}

// Commit makes the changes of a Tx true, and their revision that of what has changed; revision 0 leaves each resource the
// one that it was restored with. The Tx must be of this Set and not be stale: another one is a mistake of the program.
func (s *Set) Commit(t *Tx, revision uint64) {
	if t.base != s || t.commits != s.commits {
		panic("resource: commit of a stale Tx")
	}
	for _, change := range t.Changes() {
		if change.New == nil {
			continue
		}
		meta := change.New.Metadata()
		if revision != 0 {
			meta.Revision = revision
		}
		s.revision = max(s.revision, meta.Revision)
	}
	s.model = t.model
	s.revision = max(s.revision, revision)
	s.commits++
}
