// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package codec

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/isthmus-net/isthmus/pkg/vpc/resource"
)

// Name is the full name of a resource in the API: accounts/ACCOUNT/COLLECTION/ID, of an account accounts/ACCOUNT.
func Name(k resource.Key) string { return k.String() }

// ParseName is the inverse of Name for a resource of a kind. A name without a slash is the id of a resource of account,
// or an account's own. The error is a resource.Error about the field "name".
func ParseName(name string, kind resource.Kind, account string) (resource.Key, error) {
	k, problem := parseName(name, kind, account)
	if problem != "" {
		return resource.Key{}, &resource.Error{Code: resource.InvalidArgument, Reason: "NAME_INVALID",
			EC2: "InvalidParameterValue", Field: "name", Problem: problem}
	}
	return k, nil
}

// parseName is ParseName, with what is wrong for an error.
func parseName(name string, kind resource.Kind, account string) (k resource.Key, problem string) {
	form := Name(resource.Key{Kind: kind, Account: "ACCOUNT", ID: "ID"})
	parts := strings.Split(name, "/")
	switch {
	case name == "":
		return k, "is missing; write " + form
	case len(parts) == 1 && kind == resource.KindAccount:
		return resource.Key{Kind: kind, Account: name, ID: name}, ""
	case len(parts) == 1 && account == "":
		return k, fmt.Sprintf("%q does not say whose it is; write %s", name, form)
	case len(parts) == 1:
		return resource.Key{Kind: kind, Account: account, ID: name}, ""
	case parts[0] != "accounts" || len(parts) != strings.Count(form, "/")+1 || kind != resource.KindAccount && parts[2] != kind.Collection():
		return k, fmt.Sprintf("%q is not the name of one of %s; write %s", name, kind.Collection(), form)
	case parts[1] == "" || parts[1] == "-" || parts[len(parts)-1] == "":
		return k, fmt.Sprintf("%q leaves a part empty; write %s", name, form)
	}
	return resource.Key{Kind: kind, Account: parts[1], ID: parts[len(parts)-1]}, ""
}

// ref is the id that a reference to another resource of the same account names; what is left out is empty, for the
// rules to judge.
func (c *converter) ref(path, name string, kind resource.Kind, account string) string {
	if name == "" {
		return ""
	}
	k, problem := parseName(name, kind, account)
	switch {
	case problem != "":
		c.fail(path, "%s", problem)
	case k.Account != account:
		c.fail(path, "%q belongs to another account; only what account %s owns can stand here", name, account)
	}
	return k.ID
}

func (c *converter) refs(path string, names []string, kind resource.Kind, account string) []string {
	var out []string
	for i, name := range names {
		out = append(out, c.ref(fmt.Sprintf("%s[%d]", path, i), name, kind, account))
	}
	return out
}

// refName is the inverse of converter.ref.
func refName(id string, kind resource.Kind, account string) string {
	if id == "" {
		return ""
	}
	return Name(resource.Key{Kind: kind, Account: account, ID: id})
}

func refNames(ids []string, kind resource.Kind, account string) []string {
	var out []string
	for _, id := range ids {
		out = append(out, refName(id, kind, account))
	}
	return out
}

// Etag identifies the content of a resource: no other content of any resource has the same. It is empty for a resource
// that is not kept yet.
func Etag(r resource.Resource) string {
	revision := r.Metadata().Revision
	if revision == 0 {
		return ""
	}
	return "r" + strconv.FormatUint(revision, 36)
}

// ParseEtag is the revision that an etag stands for, 0 for an empty one, which is any. The error is a resource.Error
// about the field "etag".
func ParseEtag(etag string) (uint64, error) {
	if etag == "" {
		return 0, nil
	}
	digits, ok := strings.CutPrefix(etag, "r")
	revision, err := strconv.ParseUint(digits, 36, 64)
	if !ok || err != nil || revision == 0 || "r"+strconv.FormatUint(revision, 36) != etag {
		return 0, &resource.Error{Code: resource.InvalidArgument, Reason: "ETAG_INVALID", EC2: "InvalidParameterValue",
			Field: "etag", Problem: fmt.Sprintf("%q is not an etag of this server; send the one that the resource was read with, or none", etag)}
	}
	return revision, nil
}
