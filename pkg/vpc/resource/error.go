// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package resource

// Code is the class of an error, in gRPC's words.
type Code uint8

// Codes of errors.
const (
	InvalidArgument    Code = iota + 1 // the request is wrong, whatever there is
	NotFound                           // what it names is not there, or not the caller's to see
	AlreadyExists                      // what it would make is there
	PermissionDenied                   // the caller may not
	FailedPrecondition                 // not in this state; another change has to come first
	ResourceExhausted                  // a quota
	Aborted                            // what was read has changed since: read it again
)

// Error is one broken rule. Several are joined by errors.Join.
type Error struct {
	Code Code
	// Reason names the rule for programs, in capitals: ENDPOINT_HAS_ROUTES.
	Reason string
	// EC2 is the code that the EC2 or ELB API has for it: DependencyViolation.
	EC2 string
	// Resource is what the rule is about; its zero value when that is the request.
	Resource Key
	// Field is the path of the field that is wrong, by the names of the API: load_balancers[0]. May be empty.
	Field string
	// Problem says what is wrong and what to do about it.
	Problem string
}

// Error is the field, if there is one, and the problem.
func (e *Error) Error() string {
	if e.Field == "" {
		return e.Problem
	}
	return e.Field + ": " + e.Problem
}
