// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package resource

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

// Create makes a resource of what r says. Its ID is the UID when it is left out. It returns the resource with all that the
// Tx sets, and does not keep r.
func (t *Tx) Create(r Resource) (Resource, error) {
	n := r.clone()
	meta := n.Metadata()
	meta.Kind = n.kind()
	c := &complaints{key: meta.Key}
	if err := t.mayCreate(meta.Key); err != nil {
		return nil, err
	}
	err := t.atomically(func() error {
		t.newMeta(n, c)
		n.prepare(t, nil, c)
		n.form(c)
		if len(c.errs) == 0 {
			t.put(nil, n, c)
		}
		return t.settle(nil, n, c)
	})
	if err != nil {
		return nil, err
	}
	// What follows from it may have changed it.
	n, _ = t.model.resources.get(meta.Key)
	return n, nil
}

// mayCreate says whether the actor may make resources of an account.
func (t *Tx) mayCreate(k Key) error {
	a := t.env.Actor
	if k.Kind == KindAccount {
		if !a.Operator {
			return &Error{Code: PermissionDenied, Reason: "NOT_OPERATOR", EC2: "UnauthorizedOperation", Resource: k,
				Problem: "accounts are made by operators; ask one"}
		}
		return nil
	}
	owner := Key{KindAccount, k.Account, k.Account}
	if !a.Operator && (a.Account != k.Account || a.Account == "") {
		return notFound(owner)
	}
	if _, ok := t.model.resources.get(owner); !ok {
		e := notFound(owner)
		e.Problem = fmt.Sprintf("there is no account %q; have an operator create it", k.Account)
		return e
	}
	return nil
}

// newMeta fills in the Meta of a new resource.
func (t *Tx) newMeta(n Resource, c *complaints) {
	meta := n.Metadata()
	meta.Created, meta.Updated, meta.Revision = t.env.Now, t.env.Now, 0
	if meta.Kind == KindAccount {
		if meta.ID == "" {
			meta.ID = meta.Account
		}
		meta.Account, meta.UID = meta.ID, meta.ID
		if !accountForm.MatchString(meta.ID) {
			c.wrong("name", "%q is no account; write 12 digits", meta.ID)
		}
	} else {
		meta.UID = t.newUID(meta.Kind, c)
		switch {
		case meta.ID == "":
			meta.ID = meta.UID
		case uidForm.MatchString(meta.ID):
			c.wrong("name", "%q has the form of a uid, which is given and not chosen; leave the id out, or write another one", meta.ID)
		case !idForm.MatchString(meta.ID):
			c.wrong("name", "%q is no id; write at most 63 lower case letters, digits and hyphens, with no hyphen at an end", meta.ID)
		}
	}
	c.key = meta.Key
	t.tags(meta, c)
	if old, ok := t.model.resources.get(meta.Key); ok {
		c.add(AlreadyExists, "RESOURCE_EXISTS", kinds[meta.Kind].duplicate, "name", "there is a %s already; update it, or choose another id", old.Metadata().Key)
	}
}

// newUID is a UID that is not in use. A second try is needed once in 2^68 times.
func (t *Tx) newUID(kind Kind, c *complaints) string {
	for range 8 {
		uid := t.env.NewUID(kind.UIDPrefix())
		_, taken := t.model.claims.get(claim("uid " + uid))
		if kind == KindEndpoint && !taken {
			_, taken = t.model.claims.get(claim("geneve " + uid[max(len(uid)-geneveDigits, 0):]))
		}
		if !taken && kind.isUID(uid) {
			return uid
		}
	}
	c.add(AlreadyExists, "UID_TAKEN", "InternalError", "metadata.uid", "no unused identifier was found; try again")
	return ""
}

// tags checks tags by EC2's rules.
func (t *Tx) tags(meta *Meta, c *complaints) {
	t.quota(c, "TagLimitExceeded", "metadata.tags", "tags_per_resource", meta.Kind.String(), len(meta.Tags))
	for _, k := range slices.Sorted(maps.Keys(meta.Tags)) {
		v := meta.Tags[k]
		switch field := "metadata.tags[" + k + "]"; {
		case len(k) >= 4 && strings.EqualFold(k[:4], "aws:"):
			c.wrong(field, "begins with aws:, which is reserved; choose another key")
		case !utf8.ValidString(k) || !utf8.ValidString(v):
			c.wrong("metadata.tags", "%q is no UTF-8; write text", k)
		case k == "" || utf8.RuneCountInString(k) > 128:
			c.wrong(field, "has a key of 0 or more than 128 characters; write 1 to 128")
		case utf8.RuneCountInString(v) > 256:
			c.wrong(field, "has a value of more than 256 characters; shorten it")
		}
	}
}

// Restore puts back a resource as it was, with its UID, addresses and state, for operators. Resources come in the order of
// their kinds; whether what they refer to is there, Check says. What an export does not have of an endpoint is derived:
// its service's UID, its creator and, of one that was let in, a generation.
func (t *Tx) Restore(r Resource) error {
	n := r.clone()
	meta := n.Metadata()
	meta.Kind = n.kind()
	c := &complaints{key: meta.Key}
	if !t.env.Actor.Operator {
		return &Error{Code: PermissionDenied, Reason: "NOT_OPERATOR", EC2: "UnauthorizedOperation", Resource: meta.Key,
			Problem: "resources are imported by operators; ask one"}
	}
	if !meta.Kind.isUID(meta.UID) {
		c.wrong("metadata.uid", "%q is no uid; write %s and 17 hexadecimal digits", meta.UID, meta.Kind.UIDPrefix())
	}
	if meta.ID != meta.UID && (uidForm.MatchString(meta.ID) || !idForm.MatchString(meta.ID)) {
		c.wrong("name", "%q is no id", meta.ID)
	}
	if !accountForm.MatchString(meta.Account) {
		c.wrong("name", "%q is no account; write 12 digits", meta.Account)
	}
	if _, ok := t.model.resources.get(meta.Key); ok {
		c.add(AlreadyExists, "RESOURCE_EXISTS", kinds[meta.Kind].duplicate, "name", "there is a %s already; import into an empty store", meta.Key)
	}
	if a, ok := n.(*Attachment); ok {
		if _, there := lookup[*Subnet](&t.model, KindSubnet, a.Account, a.Subnet); !there {
			c.absent(KindSubnet, "subnet", a.Subnet)
		}
	}
	if e, ok := n.(*Endpoint); ok {
		e.recall(&t.model)
	}
	n.form(c)
	if len(c.errs) > 0 {
		return c.err()
	}
	return t.atomically(func() error {
		t.put(nil, n, c)
		return c.err()
	})
}
