// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// exitCodes are those of what a daemon answers in place of what it was asked for; exitFailed for the rest.
var exitCodes = map[codes.Code]int{
	codes.InvalidArgument:    exitInvalid,
	codes.OutOfRange:         exitInvalid,
	codes.NotFound:           exitNotFound,
	codes.AlreadyExists:      exitConflict,
	codes.FailedPrecondition: exitConflict,
	codes.Aborted:            exitConflict,
	codes.ResourceExhausted:  exitConflict,
	codes.PermissionDenied:   exitDenied,
	codes.Unauthenticated:    exitDenied,
}

// exitCodesCommand is a page of help.
func exitCodesCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "exit-codes",
		Short: "What the exit codes of all commands mean",
		Long: `0  done
1  failed: the error says why
2  called wrongly: a command, flag or argument that there is not
3  no daemon answers on the socket or the address
4  refused, whatever there is: a field of the request or of the file is wrong, and the error names it
5  refused: what it names is not there, or not yours to see
6  refused, as things are now: it exists already, is in use, has changed since it was read, or a quota is reached
7  refused: you may not
8  done, but --wait has waited in vain for the dataplane to run it
9  "isthmus diff" has found differences

"isthmus lab exec" and other commands that run programs exit as those do. Those of "isthmus doctor" are in its help.`,
	}
}

// explain makes an error for people of the status that a daemon has answered with. Other errors stay as they are.
func (c *connection) explain(err error, at func(path string) string) error {
	s, ok := status.FromError(err)
	if err == nil || !ok {
		return err
	}
	if s.Code() == codes.Unavailable {
		if err := c.listens(); err != nil {
			return c.unavailable(err)
		}
	}
	code, ok := exitCodes[s.Code()]
	if !ok {
		code = exitFailed
	}
	if at == nil {
		at = fieldName
	}
	return &exitError{code, errors.New(statusText(s, at))}
}

// unnamed are fields of requests that commands do not have under that name: what they are about, the error says.
var unnamed = []string{"name", "parent", "service"}

// fieldName is the name that a field has for those who do not know requests.
func fieldName(path string) string {
	if slices.Contains(unnamed, path) {
		return ""
	}
	return path
}

// nameInvalid is the reason of errors about names that lack an account, or more.
const nameInvalid = "NAME_INVALID"

// statusText has a line for each broken rule, with its field in front.
func statusText(s *status.Status, at func(path string) string) string {
	var lines []string
	hint := ""
	add := func(line string) {
		if !slices.ContainsFunc(lines, func(l string) bool { return strings.HasSuffix(l, line) }) {
			lines = append(lines, line)
		}
	}
	for _, d := range s.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			if d.Reason == nameInvalid {
				hint = ", or say whose by --account or --as"
			}
		case *errdetails.BadRequest:
			for _, v := range d.FieldViolations {
				add(strings.TrimPrefix(at(v.Field)+": "+v.Description, ": "))
			}
		case *errdetails.PreconditionFailure:
			for _, v := range d.Violations {
				add(v.Description)
			}
		case *errdetails.QuotaFailure:
			for _, v := range d.Violations {
				add(v.Description)
			}
		}
	}
	if len(lines) == 0 {
		return s.Message() + hint
	}
	if _, rest, more := strings.Cut(s.Message(), "; and "); more && strings.HasSuffix(rest, " more") {
		lines = append(lines, "and "+rest)
	}
	return strings.Join(lines, "\n  ") + hint
}
