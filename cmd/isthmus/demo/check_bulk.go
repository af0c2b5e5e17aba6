// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/isthmus-net/isthmus/pkg/lab"
)

// Both hashes are compared with that of what the pattern is, computed apart from both. The time includes hashing at the
// receiver.
func bulk(ctx context.Context, b *Bed) (string, error) {
	n := b.options.Bulk
	want, err := digest(lab.Pattern(n))
	if err != nil {
		return "", err
	}
	up, err := b.upload(ctx, n, want)
	if err != nil {
		return "", fmt.Errorf("toward the service: %w", err)
	}
	down, err := b.download(ctx, n, want)
	if err != nil {
		return "", fmt.Errorf("toward the client: %w", err)
	}
	rate := func(d time.Duration) float64 { return float64(n) * 8 / 1e9 / d.Seconds() }
	return fmt.Sprintf("%d MiB each way, SHA-256 equal; %.1f and %.1f Gbit/s", n>>20, rate(up), rate(down)), nil
}

func (b *Bed) upload(ctx context.Context, n int64, want string) (time.Duration, error) {
	c, err := b.dial(ctx, "client-1", b.endpoint(0, 0, portWeb))
	if err != nil {
		return 0, err
	}
	defer c.Close()
	begun := time.Now()
	response, err := c.send(http.MethodPost, "/hash", lab.Pattern(n), n)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	var got lab.Digest
	if err := json.NewDecoder(response.Body).Decode(&got); err != nil {
		return 0, err
	}
	if got.SHA256 != want || got.Length != n {
		return 0, fmt.Errorf("%d bytes with hash %s arrived; %d with %s were sent", got.Length, got.SHA256, n, want)
	}
	return time.Since(begun), nil
}

func (b *Bed) download(ctx context.Context, n int64, want string) (time.Duration, error) {
	c, err := b.dial(ctx, "client-3", b.endpoint(1, 1, portWeb))
	if err != nil {
		return 0, err
	}
	defer c.Close()
	begun := time.Now()
	response, err := c.send(http.MethodGet, fmt.Sprintf("/bytes?n=%d", n), nil, 0)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	got, err := digest(response.Body)
	if err != nil {
		return 0, err
	}
	if got != want {
		return 0, fmt.Errorf("what arrived has the hash %s, what was sent %s", got, want)
	}
	return time.Since(begun), nil
}

// digest reads to the end and hashes.
func digest(r io.Reader) (string, error) {
	hash := sha256.New()
	if _, err := io.CopyBuffer(hash, r, make([]byte, 256<<10)); err != nil {
		return "", err
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}
