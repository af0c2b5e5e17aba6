// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/isthmus-net/isthmus/control/codec"
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// MaxConfigSize is the largest configuration that is read, in bytes. Ten thousand targets need about one megabyte.
const MaxConfigSize = 16 << 20

// LoadState reads, decodes and validates a configuration file; see UnmarshalState.
func LoadState(path string) (*vpc.State, error) {
	data, err := readConfig(path)
	if err != nil {
		return nil, err
	}
	return UnmarshalState(filepath.Base(path), data)
}

// UnmarshalState decodes the configuration of a daemon without an API; see codec.UnmarshalState.
func UnmarshalState(name string, data []byte) (*vpc.State, error) {
	return codec.UnmarshalState(name, data)
}

// MarshalState writes such a configuration; see codec.MarshalState.
func MarshalState(s *vpc.State) ([]byte, error) { return codec.MarshalState(s) }

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
