// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// hashKey is the key of states that bring none. It is made once and kept in a file, so that a restart places
// connections alike. It is random and not derived from the state: a digest of ids would change with every endpoint
// that comes, and move the connections of all others; and a key that anybody can compute keeps nobody from choosing
// source ports that all lead to one target.
func (r *reconciler) hashKey() ([16]byte, error) {
	if r.key != [16]byte{} {
		return r.key, nil
	}
	key, err := loadKey(r.keyFile)
	if err != nil {
		return key, fmt.Errorf("keeping a hash key: %w; write hash_key in the configuration to do without the file", err)
	}
	r.key = key
	return key, nil
}

// loadKey reads a key from a file, or makes one and writes it. Without a file the key lasts as long as the process.
func loadKey(path string) (key [16]byte, err error) {
	if path == "" {
		rand.Read(key[:])
		return key, nil
	}
	text, err := os.ReadFile(path)
	if err == nil {
		decoded, err := hex.DecodeString(strings.TrimSpace(string(text)))
		if err != nil || copy(key[:], decoded) != len(key) {
			return key, fmt.Errorf("%s does not hold 32 hexadecimal digits; remove it", path)
		}
		return key, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return key, err
	}
	rand.Read(key[:])
	// Renamed into place, so that a crash never leaves half a key.
	half := path + ".new"
	if err := os.WriteFile(half, []byte(hex.EncodeToString(key[:])+"\n"), 0o600); err != nil {
		return key, err
	}
	return key, os.Rename(half, path)
}
