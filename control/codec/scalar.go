// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package codec

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/isthmus-net/isthmus/pkg/vpc"
	"github.com/isthmus-net/isthmus/pkg/vpc/resource"
)

// converter makes structs of messages. It goes on after a mistake, so that all of them are told at once.
type converter struct {
	errs []*vpc.FieldError
}

func (c *converter) fail(path, format string, args ...any) {
	c.errs = append(c.errs, &vpc.FieldError{Path: path, Problem: fmt.Sprintf(format, args...)})
}

// stateErr joins the mistakes as those of a state, like broken rules of one.
func (c *converter) stateErr() error {
	errs := make([]error, len(c.errs))
	for i, e := range c.errs {
		errs[i] = e
	}
	return errors.Join(errs...)
}

// resourceErr joins the mistakes as those of a request about a resource.
func (c *converter) resourceErr(k resource.Key) error {
	errs := make([]error, len(c.errs))
	for i, e := range c.errs {
		errs[i] = &resource.Error{Code: resource.InvalidArgument, Reason: "FIELD_INVALID", EC2: "InvalidParameterValue",
			Resource: k, Field: e.Path, Problem: e.Problem}
	}
	return errors.Join(errs...)
}

// prefix parses a prefix; what is left out stays invalid, for the rules to judge.
func (c *converter) prefix(path, s string) netip.Prefix {
	if s == "" {
		return netip.Prefix{}
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		c.fail(path, "%q is not a prefix; write an address and a length, such as 10.0.0.0/16", s)
	}
	return p
}

func (c *converter) prefixes(path string, list []string) []netip.Prefix {
	var out []netip.Prefix
	for i, s := range list {
		out = append(out, c.prefix(fmt.Sprintf("%s[%d]", path, i), s))
	}
	return out
}

// members parses prefixes, or addresses, each of which is a prefix of its own.
func (c *converter) members(path string, list []string) []netip.Prefix {
	var out []netip.Prefix
	for i, s := range list {
		if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
			out = append(out, netip.PrefixFrom(a, a.BitLen()))
		} else {
			out = append(out, c.prefix(fmt.Sprintf("%s[%d]", path, i), s))
		}
	}
	return out
}

// memberTexts is the inverse of converter.members.
func memberTexts(prefixes []netip.Prefix) []string {
	out := texts(prefixes)
	for i, p := range prefixes {
		if p.IsSingleIP() {
			out[i] = p.Addr().String()
		}
	}
	return out
}

// address parses an address; what is left out stays invalid, for the rules to judge.
func (c *converter) address(path, s string) netip.Addr {
	if s == "" {
		return netip.Addr{}
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		c.fail(path, "%q is not an address; write one such as 10.0.1.5", s)
	}
	return a
}

func (c *converter) portNumber(path string, n uint32) uint16 {
	if n > 65535 {
		c.fail(path, "%d is not a TCP port; write 1 to 65535", n)
	}
	return uint16(n)
}

// duration is a duration, or a default where it was left out.
func (c *converter) duration(path string, d *durationpb.Duration, otherwise time.Duration) time.Duration {
	switch {
	case d == nil:
		return otherwise
	case d.CheckValid() != nil, d.Seconds > math.MaxInt64/int64(time.Second)-1, d.Seconds < math.MinInt64/int64(time.Second)+1:
		c.fail(path, "is not a duration of less than 292 years")
		return otherwise
	}
	return d.AsDuration()
}

// time is a point in time; what is left out is the zero time.
func (c *converter) time(path string, t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	if err := t.CheckValid(); err != nil {
		c.fail(path, "is not a time of the years 1 to 9999")
		return time.Time{}
	}
	return t.AsTime()
}

// timestamp is the inverse of converter.time.
func timestamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

func texts(prefixes []netip.Prefix) []string {
	var out []string
	for _, p := range prefixes {
		out = append(out, prefixText(p))
	}
	return out
}

func prefixText(p netip.Prefix) string {
	if !p.IsValid() {
		return ""
	}
	return p.String()
}

func addressText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}
