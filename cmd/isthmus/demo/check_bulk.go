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
	"net/netip"
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
	up, err := b.upload(ctx, "client-1", b.endpoint(0, 0, portWeb), n, want)
	if err != nil {
		return "", fmt.Errorf("toward the service: %w", err)
	}
	down, err := b.download(ctx, "client-3", b.endpoint(1, 1, portWeb), n, want)
	if err != nil {
		return "", fmt.Errorf("toward the client: %w", err)
	}
	return fmt.Sprintf("%d MiB each way, SHA-256 equal; %.1f and %.1f Gbit/s", n>>20, rate(n, up), rate(n, down)), nil
}

// The first zone's appliances send packets back as they come, those of the second take them through their kernel.
func inspectedBulk(ctx context.Context, b *Bed) (string, error) {
	n := b.options.Bulk
	want, err := digest(lab.Pattern(n))
	if err != nil {
		return "", err
	}
	figure := fmt.Sprintf("%d MiB each way, SHA-256 equal", n>>20)
	to := b.site(siteA, portWeb)
	for _, way := range []struct {
		from flowPath
		mode string
	}{{appA, lab.Hairpin}, {appA2, lab.TUN}} {
		up, err := b.upload(ctx, way.from.instance, to, n, want)
		if err != nil {
			return "", fmt.Errorf("%s, toward the internet: %w", way.mode, err)
		}
		down, err := b.download(ctx, way.from.instance, to, n, want)
		if err != nil {
			return "", fmt.Errorf("%s, from the internet: %w", way.mode, err)
		}
		figure += fmt.Sprintf("; %s %.1f and %.1f Gbit/s", way.mode, rate(n, up), rate(n, down))
	}
	return figure, nil
}

// rate is that of n bytes, in Gbit/s.
func rate(n int64, took time.Duration) float64 { return float64(n) * 8 / 1e9 / took.Seconds() }

// upload sends n bytes of the pattern to an HTTP server, which returns their hash.
func (b *Bed) upload(ctx context.Context, instance string, to netip.AddrPort, n int64, want string) (time.Duration, error) {
	c, err := b.dial(ctx, instance, to)
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

// download reads n bytes of the pattern from an HTTP server and hashes them.
func (b *Bed) download(ctx context.Context, instance string, to netip.AddrPort, n int64, want string) (time.Duration, error) {
	c, err := b.dial(ctx, instance, to)
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
