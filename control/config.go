// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"go.yaml.in/yaml/v3"

	statev1 "github.com/isthmus-net/isthmus/control/api/state/v1"
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// MaxConfigSize is the largest configuration that is read, in bytes. Ten thousand targets need about one megabyte.
const MaxConfigSize = 16 << 20

// maxConfigErrors is how many mistakes of one file are told at once.
const maxConfigErrors = 20

// FileError is one mistake in a configuration file, and where it is.
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

// LoadState reads, decodes and validates a configuration file; see UnmarshalState.
func LoadState(path string) (*vpc.State, error) {
	data, err := readConfig(path)
	if err != nil {
		return nil, err
	}
	return UnmarshalState(filepath.Base(path), data)
}

// readConfig reads a file of at most MaxConfigSize.
func readConfig(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxConfigSize+1))
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	if len(data) > MaxConfigSize {
		return nil, fmt.Errorf("reading the configuration: %s is larger than %d MiB; split it over several daemons", path, MaxConfigSize>>20)
	}
	return data, nil
}

// UnmarshalState decodes a configuration in YAML, fills in defaults and validates it. Name is what errors call the file.
// The error joins FileErrors in the order of their lines: mistakes of form, or else broken rules. A state without
// hash_key has a zero HashKey.
func UnmarshalState(name string, data []byte) (*vpc.State, error) {
	root, err := parseYAML(name, data)
	if err != nil {
		return nil, err
	}
	d := &decoder{}
	message := &statev1.State{}
	d.message(root, message.ProtoReflect(), "")
	if len(d.mistakes) > 0 {
		return nil, joinMistakes(name, d.mistakes)
	}
	state, problems := stateFromProto(message)
	if problems == nil {
		problems = state.Validate()
	}
	if problems != nil {
		return nil, joinMistakes(name, locateAll(root, problems))
	}
	return state, nil
}

// parseYAML parses one document and returns its top node.
func parseYAML(name string, data []byte) (*yaml.Node, error) {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, second yaml.Node
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) || err == nil && len(doc.Content) == 0 {
		return nil, &FileError{File: name, Problem: "is empty; a configuration without anything is written as vpcs: []"}
	} else if err != nil {
		return nil, &FileError{File: name, Problem: err.Error()}
	}
	if err := dec.Decode(&second); err == nil {
		return nil, &FileError{File: name, Line: second.Line, Column: second.Column,
			Problem: "a second document begins; a configuration is one document"}
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
		if i == maxConfigErrors {
			errs = append(errs, fmt.Errorf("%s: and %d more", name, len(mistakes)-i))
			break
		}
		m.File = name
		errs = append(errs, m)
	}
	return errors.Join(errs...)
}
