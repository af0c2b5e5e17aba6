// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package resource

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// complaints collects the rules that a resource, or an operation on it, breaks.
type complaints struct {
	key  Key
	errs []error
}

// err joins them; nil if there are none.
func (c *complaints) err() error { return errors.Join(c.errs...) }

// maxComplaints is how many broken rules are told of one resource: more help nobody.
const maxComplaints = 100

// add records a broken rule.
func (c *complaints) add(code Code, reason, ec2, field, format string, args ...any) {
	if len(c.errs) >= maxComplaints {
		return
	}
	c.errs = append(c.errs, &Error{
		Code: code, Reason: reason, EC2: ec2, Resource: c.key, Field: field, Problem: fmt.Sprintf(format, args...),
	})
}

// wrong records a field that is wrong whatever else there is.
func (c *complaints) wrong(field, format string, args ...any) {
	c.add(InvalidArgument, "INVALID_FIELD", "InvalidParameterValue", field, format, args...)
}

// missing records a field that must be there.
func (c *complaints) missing(field, format string, args ...any) {
	c.add(InvalidArgument, "MISSING_FIELD", "MissingParameter", field, "is missing; "+format, args...)
}

// conflict records a combination of fields that cannot be.
func (c *complaints) conflict(reason, field, format string, args ...any) {
	c.add(InvalidArgument, reason, "InvalidParameterCombination", field, format, args...)
}

// absent records a reference that leads nowhere.
func (c *complaints) absent(kind Kind, field, id string) {
	c.add(NotFound, "REFERENCE_NOT_FOUND", kinds[kind].missing, field, "there is no %s %q in account %s; create it, or name another one",
		kind, id, c.key.Account)
}

// fixed records a field that was changed although it lasts as long as the resource.
func (c *complaints) fixed(field string, same bool) {
	if !same {
		c.add(InvalidArgument, "FIELD_IMMUTABLE", "InvalidParameterCombination", field,
			"cannot be changed; leave it as it is, or make another %s", c.key.Kind)
	}
}

// notFound is the error of an operation on what is not there, or not the caller's to see.
func notFound(k Key) *Error {
	e := &Error{Code: NotFound, Reason: "RESOURCE_NOT_FOUND", Resource: k, Problem: fmt.Sprintf("there is no %s; look at the list of %s", k, k.Kind.Collection())}
	if k.Kind.valid() {
		e.EC2 = kinds[k.Kind].missing
	}
	return e
}

// address checks that an address can be an interface's.
func (c *complaints) address(field string, a netip.Addr) bool {
	switch {
	case !a.IsValid():
		c.missing(field, "write an IPv4 address")
	case !a.Is4():
		c.wrong(field, "%s is not an IPv4 address; only IPv4 is carried so far", a)
	case unusable(netip.PrefixFrom(a, 32)):
		c.wrong(field, "%s cannot be the address of an interface; write a unicast address", a)
	default:
		return true
	}
	return false
}

// unusable says whether an IPv4 prefix has addresses that no interface can have.
func unusable(p netip.Prefix) bool {
	for _, q := range reservedPrefixes {
		if p.Overlaps(q) {
			return true
		}
	}
	return false
}

// reservedPrefixes are "this network", loopback, multicast and what is reserved beyond (RFC 6890).
var reservedPrefixes = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("224.0.0.0/3"),
}

// network checks that a prefix is a network: nothing set behind its length.
func (c *complaints) network(field string, p netip.Prefix) bool {
	switch {
	case !p.IsValid():
		c.missing(field, "write a prefix such as 10.0.0.0/16")
	case p.Addr().Is4In6():
		c.wrong(field, "%s stands for IPv4 addresses; write the IPv4 prefix itself", p)
	case p != p.Masked():
		c.wrong(field, "%s has bits set behind its length; write %s", p, p.Masked())
	default:
		return true
	}
	return false
}

// network4 is network for IPv4 alone, and for addresses that interfaces can have.
func (c *complaints) network4(field string, p netip.Prefix) bool {
	switch {
	case !c.network(field, p):
	case !p.Addr().Is4():
		c.wrong(field, "%s is not an IPv4 prefix; only IPv4 is carried so far", p)
	case unusable(p):
		c.wrong(field, "%s has addresses that interfaces cannot have; write a prefix of unicast addresses", p)
	default:
		return true
	}
	return false
}

// text checks what people write for people.
func (c *complaints) text(field, s string, most int) {
	if len(s) > most {
		c.wrong(field, "is longer than %d bytes; shorten it", most)
	}
}

// maxText is the longest description or name for people, in bytes.
const maxText = 255

// judge has the dataplane's rules about a State that has one resource in it, and reports what they say about fields at
// and below path, by the names that the API has for them.
func (c *complaints) judge(s *vpc.State, path string, names *strings.Replacer) {
	joined, ok := s.Validate().(interface{ Unwrap() []error })
	if !ok {
		return
	}
	for _, err := range joined.Unwrap() {
		var f *vpc.FieldError
		if !errors.As(err, &f) || !strings.HasPrefix(f.Path, path) {
			continue
		}
		c.wrong(names.Replace(strings.TrimPrefix(strings.TrimPrefix(f.Path, path), ".")), "%s", f.Problem)
	}
}

// at is the path of one element of a list.
func at(field string, i int) string { return fmt.Sprintf("%s[%d]", field, i) }
