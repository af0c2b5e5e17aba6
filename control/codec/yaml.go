// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package codec

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/proto"
)

// maxMistakes is how many mistakes of one file are told at once.
const maxMistakes = 20

// FileError is one mistake in a file, and where it is.
type FileError struct {
	File         string
	Line, Column int    // from 1; 0 when the mistake is the whole file's
	Path         string // of the field, as in endpoints[0].enis[1].address; empty at the top
	Problem      string
}

// Error is the place in the form that editors jump to, the field and the problem.
func (e *FileError) Error() string {
	at := e.File
	if e.Line > 0 {
		at = fmt.Sprintf("%s:%d:%d", e.File, e.Line, e.Column)
	}
	if e.Path == "" {
		return at + ": " + e.Problem
	}
	return at + ": " + e.Path + ": " + e.Problem
}

// UnmarshalYAML sets the fields of an empty message from a file of one YAML document. Name is what errors call the file.
// Fields have the names of the schema, durations a unit (350s), enum values the names that AWS gives them, times are as
// in RFC 3339. The error joins FileErrors in the order of their lines.
func UnmarshalYAML(name string, data []byte, m proto.Message) error {
	_, err := decodeYAML(name, data, m)
	return err
}

// Locate finds the line and the column, from 1, that the field of a path has in a file, or else what the path leads to
// last; 0 and 0 if the file is no YAML. It is for mistakes that others find in what the file says.
func Locate(data []byte, path string) (line, column int) {
	root, err := parseYAML("", data)
	if err != nil {
		return 0, 0
	}
	n := locate(root, path)
	return n.Line, n.Column
}

// MarshalYAML writes the fields of a message that are set as YAML, in the order of the schema. UnmarshalYAML reads the
// same message back.
func MarshalYAML(m proto.Message) ([]byte, error) {
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if err := enc.Encode(messageNode(m.ProtoReflect())); err != nil {
		return nil, fmt.Errorf("writing YAML: %w", err)
	}
	if err := enc.Close(); err != nil {
		return nil, fmt.Errorf("writing YAML: %w", err)
	}
	return out.Bytes(), nil
}

// decodeYAML is UnmarshalYAML, and returns the top node as well for later mistakes to be located.
func decodeYAML(name string, data []byte, m proto.Message) (*yaml.Node, error) {
	root, err := parseYAML(name, data)
	if err != nil {
		return nil, err
	}
	d := &decoder{}
	d.message(root, m.ProtoReflect(), "")
	if len(d.mistakes) > 0 {
		return nil, joinMistakes(name, d.mistakes)
	}
	return root, nil
}

// parseYAML parses one document and returns its top node.
func parseYAML(name string, data []byte) (*yaml.Node, error) {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, second yaml.Node
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) || err == nil && len(doc.Content) == 0 {
		return nil, &FileError{File: name, Problem: "is empty; a file without anything is written as vpcs: []"}
	} else if err != nil {
		return nil, &FileError{File: name, Problem: err.Error()}
	}
	if err := dec.Decode(&second); err == nil {
		return nil, &FileError{File: name, Line: second.Line, Column: second.Column,
			Problem: "a second document begins; a file is one document"}
	} else if !errors.Is(err, io.EOF) {
		return nil, &FileError{File: name, Problem: err.Error()}
	}
	return doc.Content[0], nil
}

// joinMistakes joins mistakes in the order of the file, the first of them if they are many.
func joinMistakes(name string, mistakes []*FileError) error {
	slices.SortStableFunc(mistakes, func(a, b *FileError) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	var errs []error
	for i, m := range mistakes {
		if i == maxMistakes {
			errs = append(errs, fmt.Errorf("%s: and %d more", name, len(mistakes)-i))
			break
		}
		m.File = name
		errs = append(errs, m)
	}
	return errors.Join(errs...)
}
