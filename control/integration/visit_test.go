// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/isthmus-net/isthmus/pkg/lab"
)

// crowd is many connections to the servers, a bounded number of them at a time.
type crowd struct {
	visits, atOnce int
	from           []netip.Addr // addresses of the consumer, hosts if there are none
	ports          []uint16
	// largest is the size of the largest body in bytes, either way.
	largest int
	seed    uint64
}

// send makes all visits and reports those that went wrong, each by itself for the first few.
func (b *bed) send(c crowd) {
	b.Helper()
	const reported = 10
	if c.from == nil {
		c.from = hosts
	}
	var failed atomic.Int32
	var next atomic.Int64
	var all sync.WaitGroup
	for range c.atOnce {
		all.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= c.visits {
					return
				}
				v := visit{
					port: c.ports[i%len(c.ports)], from: c.from[i%len(c.from)], largest: c.largest,
					r: rand.New(rand.NewPCG(c.seed, uint64(i))),
				}
				if err := v.make(b); err != nil && failed.Add(1) <= reported {
					b.Errorf("visit %d to port %d: %v", i, v.port, err)
				}
			}
		})
	}
	all.Wait()
	if n := failed.Load(); n > reported {
		b.Errorf("%d of %d visits failed", n, c.visits)
	}
}

// visit is one connection to a server, with one or more requests.
type visit struct {
	port    uint16
	from    netip.Addr
	largest int
	r       *rand.Rand
}

func (v *visit) make(b *bed) error {
	ctx, cancel := context.WithTimeout(b.Context(), patience)
	defer cancel()
	c, err := b.tryDial(ctx, v.port, v.from)
	if err != nil {
		return err
	}
	defer c.Close()
	answers := bufio.NewReader(c)
	for left := v.r.IntN(3); left >= 0; left-- {
		if err := v.ask(c, answers, left == 0); err != nil {
			return fmt.Errorf("from %s: %w", c.LocalAddr(), err)
		}
	}
	// The server closes first; what it sends beyond its answers is a mistake.
	if n, err := io.Copy(io.Discard, answers); n != 0 || err != nil {
		return fmt.Errorf("from %s: %d bytes and %v behind the last answer", c.LocalAddr(), n, err)
	}
	return nil
}

// ask makes one request, of which there are two kinds, and checks the answer.
func (v *visit) ask(c net.Conn, answers *bufio.Reader, last bool) error {
	size := v.r.IntN(1<<(1+v.r.IntN(32))) % (v.largest + 1) // small ones as often as large ones
	request, err := http.NewRequest(http.MethodGet, "http://"+endpoint(v.port)+"/bytes?n="+strconv.Itoa(size), nil)
	check := func(body []byte) error { return checkBytes(body, size) }
	if v.r.IntN(2) == 0 {
		request, err = http.NewRequest(http.MethodPost, "http://"+endpoint(v.port)+"/hash", lab.Pattern(int64(size)))
		check = func(body []byte) error { return checkDigest(body, size) }
	}
	if err != nil {
		return err
	}
	if request.Method == http.MethodPost {
		request.ContentLength = int64(size)
	}
	request.Close = last
	w := bufio.NewWriterSize(c, 1+v.r.IntN(64<<10)) // so that the first segment may be of any size
	if err := errors.Join(request.Write(w), w.Flush()); err != nil {
		return err
	}
	response, err := http.ReadResponse(answers, request)
	if err != nil {
		return fmt.Errorf("answer to %s of %d bytes: %w", request.Method, size, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	switch {
	case err != nil:
		return fmt.Errorf("body of the answer to %s of %d bytes: %w", request.Method, size, err)
	case response.StatusCode != http.StatusOK:
		return fmt.Errorf("status %s", response.Status)
	case response.Header.Get(sourceHeader) != c.LocalAddr().String():
		return fmt.Errorf("the server saw the source %q", response.Header.Get(sourceHeader))
	case v.port >= goPort && response.Header.Get(endpointHeader) != endpointID:
		return fmt.Errorf("the server saw the endpoint %q", response.Header.Get(endpointHeader))
	}
	return check(body)
}

func checkBytes(body []byte, size int) error {
	want, err := io.ReadAll(lab.Pattern(int64(size)))
	if err != nil || !bytes.Equal(body, want) {
		return fmt.Errorf("the %d bytes of the answer are not the %d asked for", len(body), size)
	}
	return nil
}

func checkDigest(body []byte, size int) error {
	hash := sha256.New()
	if _, err := io.Copy(hash, lab.Pattern(int64(size))); err != nil {
		return err
	}
	var got lab.Digest
	if err := json.Unmarshal(body, &got); err != nil {
		return err
	}
	if got.Length != int64(size) || got.SHA256 != hex.EncodeToString(hash.Sum(nil)) {
		return fmt.Errorf("the server received %d bytes that are not the %d sent", got.Length, size)
	}
	return nil
}
