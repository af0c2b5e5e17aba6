// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package codec

import (
	"errors"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// suggest names the field that an unknown one was probably meant to be, as the end of a sentence.
func suggest(name string, fields protoreflect.FieldDescriptors) string {
	best, distance := "", 1+max(1, len(name)/3)
	for i := range fields.Len() {
		candidate := string(fields.Get(i).Name())
		if n := editDistance(name, candidate, distance); n < distance {
			best, distance = candidate, n
		}
	}
	if best != "" {
		return "; did you mean " + strconv.Quote(best) + "?"
	}
	names := make([]string, fields.Len())
	for i := range names {
		names[i] = string(fields.Get(i).Name())
	}
	return "; there are " + strings.Join(names, ", ")
}

// editDistance is how many bytes are inserted, removed or replaced to make a into b (Levenshtein), or at least limit
// when it is limit or more.
func editDistance(a, b string, limit int) int {
	if len(a)-len(b) >= limit || len(b)-len(a) >= limit {
		return limit
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// locateAll turns broken rules (vpc.FieldErrors, joined) into mistakes with a place in the file.
func locateAll(root *yaml.Node, err error) []*FileError {
	errs := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		errs = joined.Unwrap()
	}
	mistakes := make([]*FileError, len(errs))
	for i, err := range errs {
		var field *vpc.FieldError
		if !errors.As(err, &field) {
			mistakes[i] = &FileError{Problem: err.Error()}
			continue
		}
		n := locate(root, field.Path)
		mistakes[i] = &FileError{Line: n.Line, Column: n.Column, Path: field.Path, Problem: field.Problem}
	}
	return mistakes
}

// locate finds the node a path leads to, or the last one on the way when the rest was left out of the file.
func locate(n *yaml.Node, path string) *yaml.Node {
	for path != "" {
		var next *yaml.Node
		switch rest, indexed := strings.CutPrefix(path, "["); {
		case indexed && strings.HasPrefix(rest, `"`): // the key of a map, in which anything may stand
			quoted, err := strconv.QuotedPrefix(rest)
			if err != nil {
				return n
			}
			key, _ := strconv.Unquote(quoted)
			next, path = mapValue(n, key), strings.TrimPrefix(rest[len(quoted):], "]")
		case indexed:
			number, after, _ := strings.Cut(rest, "]")
			index, err := strconv.Atoi(number)
			if err == nil && n.Kind == yaml.SequenceNode && index >= 0 && index < len(n.Content) {
				next = n.Content[index]
			}
			path = after
		default:
			end := strings.IndexAny(path, ".[")
			if end < 0 {
				end = len(path)
			}
			next, path = mapValue(n, path[:end]), path[end:]
		}
		if next == nil {
			return n
		}
		n, path = next, strings.TrimPrefix(path, ".")
	}
	return n
}

// mapValue is the value of a mapping's field, nil when it has none of that name.
func mapValue(n *yaml.Node, name string) *yaml.Node {
	if n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return n.Content[i+1]
		}
	}
	return nil
}
