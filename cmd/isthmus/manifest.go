// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
	"github.com/isthmus-net/isthmus/control/codec"
)

// manifestFile is a manifest and where it is from.
type manifestFile struct {
	name string
	data []byte
	*apiv1.Manifest
}

// at names a field of a request by its place in the file.
func (f *manifestFile) at(path string) string {
	inside := strings.TrimPrefix(strings.TrimPrefix(path, "manifest"), ".")
	if line, column := codec.Locate(f.data, inside); line > 0 {
		return strings.TrimSuffix(fmt.Sprintf("%s:%d:%d: %s", f.name, line, column, inside), ": ")
	}
	return f.name + ": " + inside
}

// readManifests reads files, those of directories that look like manifests, and the standard input for -.
func readManifests(cmd *cobra.Command, paths []string) (files []*manifestFile, err error) {
	for _, path := range paths {
		inside, err := filesOf(path)
		if err != nil {
			return nil, err
		}
		for _, name := range inside {
			f := &manifestFile{Manifest: &apiv1.Manifest{}}
			if f.name, f.data, err = readFile(cmd, name); err == nil {
				err = decodeFile(f.name, f.data, f.Manifest)
			}
			if err != nil {
				return nil, err
			}
			files = append(files, f)
		}
	}
	return files, nil
}

// filesOf is a path itself or, of a directory, the files in it with YAML or JSON.
func filesOf(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil || !info.IsDir() {
		return []string{path}, nil // reading it says what is wrong
	}
	var files []string
	for _, pattern := range []string{"*.yaml", "*.yml", "*.json"} {
		found, err := filepath.Glob(filepath.Join(path, pattern))
		if err != nil {
			return nil, fmt.Errorf("listing %s: %w", path, err)
		}
		files = append(files, found...)
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("%s has no file that ends with .yaml, .yml or .json", path)
	}
	slices.Sort(files)
	return files, nil
}

// readFile reads a file or, for -, the standard input, and says what errors call it.
func readFile(cmd *cobra.Command, path string) (name string, data []byte, err error) {
	if path == "-" {
		name = "standard input"
		data, err = io.ReadAll(cmd.InOrStdin())
	} else {
		name = path
		data, err = os.ReadFile(path)
	}
	if err != nil {
		return name, nil, fmt.Errorf("reading %s: %w", name, err)
	}
	return name, data, nil
}

// readMessage reads a message from a file.
func readMessage(cmd *cobra.Command, path string, m proto.Message) error {
	name, data, err := readFile(cmd, path)
	if err != nil {
		return err
	}
	return decodeFile(name, data, m)
}

// decodeFile decodes YAML or, as commands write it with -o json, JSON.
func decodeFile(name string, data []byte, m proto.Message) error {
	if json.Valid(data) && bytes.HasPrefix(bytes.TrimSpace(data), []byte("{")) {
		if err := protojson.Unmarshal(data, m); err != nil {
			return &exitError{exitInvalid, fmt.Errorf("%s: %w", name, err)}
		}
		return nil
	}
	err := codec.UnmarshalYAML(name, data, m)
	if err == nil {
		return nil
	}
	return &exitError{exitInvalid, errors.New(strings.ReplaceAll(err.Error(), "\n", "\n  "))}
}
