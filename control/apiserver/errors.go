// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"

	"github.com/isthmus-net/isthmus/control/codec"
	"github.com/isthmus-net/isthmus/control/keeper"
	"github.com/isthmus-net/isthmus/control/store"
	"github.com/isthmus-net/isthmus/pkg/vpc/resource"
)

// ErrorDomain is that of the reasons in google.rpc.ErrorInfo. The metadata there has ec2_code, the code that the EC2 or ELB
// API has for the error, and resource, the name of what it is about.
const ErrorDomain = "isthmus"

// A status travels in headers, which are bounded: it tells of so many broken rules, and so many bytes of each.
const (
	maxProblems = 20
	maxProblem  = 1 << 10
)

var grpcCodes = map[resource.Code]codes.Code{
	resource.InvalidArgument:    codes.InvalidArgument,
	resource.NotFound:           codes.NotFound,
	resource.AlreadyExists:      codes.AlreadyExists,
	resource.PermissionDenied:   codes.PermissionDenied,
	resource.FailedPrecondition: codes.FailedPrecondition,
	resource.ResourceExhausted:  codes.ResourceExhausted,
	resource.Aborted:            codes.Aborted,
}

// problems lists the broken rules that an error joins; nil when there is anything else in it.
func problems(err error) []*resource.Error {
	switch e := err.(type) {
	case *resource.Error:
		return []*resource.Error{e}
	case interface{ Unwrap() []error }:
		var all []*resource.Error
		for _, part := range e.Unwrap() {
			inside := problems(part)
			if inside == nil {
				return nil
			}
			all = append(all, inside...)
		}
		return all
	case interface{ Unwrap() error }:
		return problems(e.Unwrap())
	}
	return nil
}

// under puts the path of a resource before the fields that errors are about. The rules call its etag that, wherever it is.
func under(path string, err error) error {
	list := problems(err)
	if list == nil {
		return err
	}
	errs := make([]error, len(list))
	for i, e := range list {
		moved := *e
		if moved.Field == "etag" {
			moved.Field = "metadata.etag"
		}
		moved.Field = strings.TrimSuffix(path+"."+moved.Field, ".")
		errs[i] = &moved
	}
	return errors.Join(errs...)
}

// toStatus is the error that a caller gets. What it need not know is logged instead.
func (s *Server) toStatus(ctx context.Context, method string, err error) error {
	if list := problems(err); list != nil {
		return ruleStatus(list)
	}
	if st, ok := status.FromError(err); ok {
		return st.Err()
	}
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return status.FromContextError(err).Err()
	case errors.Is(err, keeper.ErrCompacted):
		return status.Error(codes.OutOfRange, "what has changed since that revision is no longer known; watch from revision 0")
	case errors.Is(err, store.ErrBroken), errors.Is(err, store.ErrClosed):
		s.opts.Log.Error("the store takes no changes", "method", method, "error", err)
		return status.Error(codes.Unavailable, "the store takes no changes now; see the daemon's log, then try again")
	case errors.Is(err, store.ErrInvalid):
		return status.Errorf(codes.InvalidArgument, "the store refuses this: %s", err)
	}
	s.opts.Log.Error("a call has failed", "method", method, "account", actorOf(ctx).Account, "error", err)
	return status.Error(codes.Internal, "the server has failed; the daemon's log says why")
}

// ruleStatus tells of broken rules: the first decides about the code and the reason.
func ruleStatus(list []*resource.Error) error {
	first := list[0]
	code, ok := grpcCodes[first.Code]
	if !ok {
		code = codes.Unknown
	}
	more := ""
	if len(list) > maxProblems {
		more = fmt.Sprintf("; and %d more", len(list)-maxProblems)
		list = list[:maxProblems]
	}
	texts := make([]string, len(list))
	for i, e := range list {
		texts[i] = clipped(e.Error())
	}
	info := &errdetails.ErrorInfo{Reason: first.Reason, Domain: ErrorDomain, Metadata: map[string]string{}}
	if first.EC2 != "" {
		info.Metadata["ec2_code"] = first.EC2
	}
	if name := subject(first); name != "" {
		info.Metadata["resource"] = name
	}
	st := status.New(code, strings.Join(texts, "; ")+more)
	detailed, err := st.WithDetails(append([]protoadapt.MessageV1{info}, violations(list)...)...)
	if err != nil {
		return st.Err() // details that do not marshal are not worth the error
	}
	return detailed.Err()
}

// subject names what a rule is about, as the API does.
func subject(e *resource.Error) string {
	if e.Resource.Kind == 0 || e.Resource.ID == "" {
		return ""
	}
	return clipped(codec.Name(e.Resource))
}

// clipped cuts what may have come from a request, whose names can be as long as it.
func clipped(s string) string {
	if len(s) <= maxProblem {
		return s
	}
	return strings.ToValidUTF8(s[:maxProblem], "") + "..."
}

// violations are the details of google.rpc that fit: fields, states and quotas.
func violations(list []*resource.Error) (details []protoadapt.MessageV1) {
	bad, state, quota := &errdetails.BadRequest{}, &errdetails.PreconditionFailure{}, &errdetails.QuotaFailure{}
	for _, e := range list {
		if e.Field != "" {
			bad.FieldViolations = append(bad.FieldViolations,
				&errdetails.BadRequest_FieldViolation{Field: clipped(e.Field), Description: clipped(e.Problem), Reason: e.Reason})
		}
		switch e.Code {
		case resource.FailedPrecondition, resource.Aborted:
			state.Violations = append(state.Violations,
				&errdetails.PreconditionFailure_Violation{Type: e.Reason, Subject: subject(e), Description: clipped(e.Problem)})
		case resource.ResourceExhausted:
			quota.Violations = append(quota.Violations, &errdetails.QuotaFailure_Violation{Subject: subject(e), Description: clipped(e.Problem)})
		}
	}
	if len(bad.FieldViolations) > 0 {
		details = append(details, bad)
	}
	if len(state.Violations) > 0 {
		details = append(details, state)
	}
	if len(quota.Violations) > 0 {
		details = append(details, quota)
	}
	return details
}

// invalid is the error of a request that is wrong in itself.
func invalid(field, format string, args ...any) error {
	return &resource.Error{Code: resource.InvalidArgument, Reason: "INVALID_REQUEST", EC2: "InvalidParameterValue", Field: field,
		Problem: fmt.Sprintf(format, args...)}
}

// denied is the error of a request for what belongs to others, whether it exists or not.
func denied(field, account string) error {
	return &resource.Error{Code: resource.PermissionDenied, Reason: "NOT_YOUR_ACCOUNT", EC2: "UnauthorizedOperation", Field: field,
		Problem: fmt.Sprintf("account %s is not yours", account)}
}
