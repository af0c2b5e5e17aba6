// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/isthmus-net/isthmus/pkg/lab"
)

// TestBulk moves a lot each way behind a PROXY protocol header, and looks for what the kernels found wrong with it.
func TestBulk(t *testing.T) {
	for _, m := range modes {
		t.Run(m.name, func(t *testing.T) {
			size := load[int64](64<<20, 128<<20, 1<<30)
			if m.name == "on" {
				size = load[int64](64<<20, 1<<30, 1<<30)
			}
			b := newBed(t, options{services: proxied, off: m.off})
			b.serve(goPort, requireHeader)
			before, stats := b.counters(), b.daemon.Stats()
			b.upload(goPort, size)
			b.download(goPort, size)
			b.quiet()
			b.unmoved(before, corrupt...)
			b.unmoved(before, outOfWindow...)
			if drops := b.drops(stats); len(drops) > 0 {
				t.Errorf("the dataplane dropped %v", drops)
			}
		})
	}
}

// http speaks HTTP through the endpoint, each request on a connection of its own.
func (b *bed) http() *http.Client {
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			_, digits, _ := net.SplitHostPort(address)
			port, err := strconv.ParseUint(digits, 10, 16)
			if err != nil {
				return nil, err
			}
			c, err := b.tryDial(ctx, uint16(port), b.client)
			if err != nil {
				return nil, err
			}
			c.SetDeadline(time.Now().Add(5 * patience)) // it may be much on a slow machine
			return c, nil
		},
	}}
}

// upload sends bytes and has the server say what it received.
func (b *bed) upload(port uint16, size int64) {
	b.Helper()
	hash, begun := sha256.New(), time.Now()
	body := io.TeeReader(lab.Pattern(size), hash)
	request, err := http.NewRequest(http.MethodPost, "http://"+endpoint(port)+"/hash", body)
	if err != nil {
		b.Fatal(err)
	}
	request.ContentLength = size
	response, err := b.http().Do(request)
	if err != nil {
		b.Fatal(err)
	}
	defer response.Body.Close()
	var got lab.Digest
	if err := json.NewDecoder(response.Body).Decode(&got); err != nil {
		b.Fatal(err)
	}
	if want := hex.EncodeToString(hash.Sum(nil)); got.Length != size || got.SHA256 != want {
		b.Errorf("the server received %d bytes with SHA-256 %s, sent were %d with %s", got.Length, got.SHA256, size, want)
	}
	b.Logf("%d MiB up: %s", size>>20, rate(size, begun))
}

// download receives bytes and compares them with those the server must have sent.
func (b *bed) download(port uint16, size int64) {
	b.Helper()
	begun := time.Now()
	response, err := b.http().Get(fmt.Sprintf("http://%s/bytes?n=%d", endpoint(port), size))
	if err != nil {
		b.Fatal(err)
	}
	defer response.Body.Close()
	got, want := sha256.New(), sha256.New()
	n, err := io.Copy(got, response.Body)
	if err != nil {
		b.Fatalf("after %d bytes: %v", n, err)
	}
	took := rate(n, begun)
	io.Copy(want, lab.Pattern(size))
	if n != size || string(got.Sum(nil)) != string(want.Sum(nil)) {
		b.Errorf("%d bytes received are not the %d sent", n, size)
	}
	b.Logf("%d MiB down: %s", size>>20, took)
}

func rate(bytes int64, begun time.Time) string {
	return fmt.Sprintf("%.0f MB/s", float64(bytes)/1e6/time.Since(begun).Seconds())
}
