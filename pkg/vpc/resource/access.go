// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package resource

import (
	"regexp"
	"slices"
	"strings"
)

// Actor is who asks for something.
type Actor struct {
	Account string
	// Principal is the ARN of the user, role or session; empty: the account itself.
	Principal string
	// Operator sees and changes what all accounts own, and makes accounts.
	Operator bool
	// Host is trusted with every namespace of the host: an operator, also where he acts as an account.
	Host bool
}

// principalForm is the form of principals that may be allowed to create endpoints.
var principalForm = regexp.MustCompile(`^arn:([a-z0-9-]+):iam::([0-9]{12}):(root|(user|role)/[\w+=,.@/-]{1,576})$`)

// principals checks the principals that a service allows.
func (c *complaints) principals(field string, list []string) {
	seen := map[string]bool{}
	for i, p := range list {
		switch here := at(field, i); {
		case p != "*" && !principalForm.MatchString(p):
			c.add(InvalidArgument, "INVALID_PRINCIPAL", "InvalidPrincipal", here,
				"%q is no principal; write arn:aws:iam::ACCOUNT:root, the ARN of a user or role, or *", p)
		case seen[p]:
			c.wrong(here, "%q is there twice; leave one out", p)
		}
		seen[p] = true
	}
}

// rootARN is the principal that is an account itself.
func (m *model) rootARN(account string) string {
	return "arn:" + m.cfg.Partition + ":iam::" + account + ":root"
}

// admits says whether a principal of an account may create endpoints for a service.
func (m *model) admits(s *EndpointService, account, principal string) bool {
	if account == "" {
		return false
	}
	return account == s.Account || slices.ContainsFunc(s.Principals, func(allowed string) bool {
		return allowed == "*" || allowed == m.rootARN(account) || principal != "" && (allowed == principal || allowed == roleOf(allowed, principal))
	})
}

// roleOf is the ARN of a role if principal is a session of it, arn:aws:sts::ACCOUNT:assumed-role/NAME/SESSION, and
// empty otherwise. The path that a role's name may have is not in its sessions.
func roleOf(role, principal string) string {
	p, r := strings.Split(principal, ":"), strings.Split(role, ":")
	if len(p) != 6 || len(r) != 6 || p[2] != "sts" || p[1] != r[1] || p[4] != r[4] || !strings.HasPrefix(r[5], "role/") {
		return ""
	}
	session := strings.Split(p[5], "/")
	if len(session) != 3 || session[0] != "assumed-role" || session[1] != r[5][strings.LastIndexByte(r[5], '/')+1:] {
		return ""
	}
	return role
}

// visible says whether an actor may see a resource: its own, services that it may use, and endpoints of its services.
func (m *model) visible(a Actor, r Resource) bool {
	if a.Operator || a.Account != "" && r.Metadata().Account == a.Account {
		return true
	}
	switch r := r.(type) {
	case *EndpointService:
		return m.admits(r, a.Account, a.Principal)
	case *Endpoint:
		s, ok := m.service(r.ServiceUID)
		return ok && a.Account != "" && s.Account == a.Account
	}
	return false
}

// owned finds a resource that the Tx's actor may change.
func (t *Tx) owned(k Key) (Resource, *Error) {
	r, ok := t.model.get(k)
	if !ok || !t.model.visible(t.env.Actor, r) {
		return nil, notFound(k)
	}
	k = r.Metadata().Key
	if t.env.Actor.Operator || k.Account == t.env.Actor.Account && k.Kind != KindAccount {
		return r, nil
	}
	e := &Error{Code: PermissionDenied, Reason: "NOT_OWNER", EC2: "UnauthorizedOperation", Resource: k}
	switch k.Kind {
	case KindAccount:
		e.Problem = "accounts are made, changed and deleted by operators; ask one"
	case KindEndpoint:
		e.Problem = "only the consumer, account " + k.Account + ", can change or delete the endpoint; reject it instead"
	default:
		e.Problem = "only account " + k.Account + " can change or delete " + k.String() + "; ask it"
	}
	return nil, e
}
