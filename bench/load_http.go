// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Request and response of the load: valid HTTP/1.1, and of fixed size, so that neither side spends its time parsing.
var (
	httpRequest  = []byte("GET /bench HTTP/1.1\r\nHost: bench.example\r\nUser-Agent: isthmus-bench\r\n\r\n")
	httpResponse = []byte("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 128\r\n\r\n" +
		strings.Repeat("0123456789abcdef", 8))
)

// latencies is the histogram of one connection, in nanoseconds. One a connection keeps the lock uncontended.
type latencies struct {
	mu   sync.Mutex
	hist *hdrhistogram.Histogram
}

func newLatencies() *latencies {
	return &latencies{hist: hdrhistogram.New(int64(time.Microsecond), int64(2*dialLimit), 3)}
}

func (l *latencies) record(d time.Duration) {
	l.mu.Lock()
	l.hist.RecordValue(int64(d)) // what is beyond the range has failed by timeout
	l.mu.Unlock()
}

// drain adds the histogram to total and empties it.
func (l *latencies) drain(total *hdrhistogram.Histogram) {
	l.mu.Lock()
	defer l.mu.Unlock()
	total.Merge(l.hist)
	l.hist.Reset()
}

// httpClient starts the client's connections and returns its sampler.
func httpClient(s *loadSpec, t *tally) func(*mark) {
	all := make([]*latencies, s.Parallel)
	for n := range all {
		all[n] = newLatencies()
		go func() {
			conn, err := s.dial(uint64(n))
			if err == nil {
				defer conn.Close()
				err = requests(conn, t, all[n])
			}
			t.fail(err)
		}()
	}
	return func(m *mark) {
		t.sample(m)
		total := newLatencies().hist
		for _, l := range all {
			l.drain(total)
		}
		m.P50 = time.Duration(total.ValueAtQuantile(50))
		m.P99 = time.Duration(total.ValueAtQuantile(99))
	}
}

// requests asks and waits for the answer until something fails.
func requests(conn net.Conn, t *tally, l *latencies) error {
	answer := make([]byte, len(httpResponse))
	for {
		begun := time.Now()
		conn.SetDeadline(begun.Add(dialLimit))
		if _, err := conn.Write(httpRequest); err != nil {
			return err
		}
		if _, err := io.ReadFull(conn, answer); err != nil {
			return err
		}
		if !bytes.Equal(answer, httpResponse) {
			return fmt.Errorf("wrong response %q", answer)
		}
		l.record(time.Since(begun))
		t.count.Add(1)
		t.bytes.Add(uint64(len(httpRequest) + len(httpResponse)))
		t.success()
	}
}

// httpServer answers requests until the client closes the connection.
func httpServer(conn net.Conn, t *tally) error {
	request := make([]byte, len(httpRequest))
	for {
		if _, err := io.ReadFull(conn, request); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if !bytes.Equal(request, httpRequest) {
			return fmt.Errorf("wrong request %q", request)
		}
		if _, err := conn.Write(httpResponse); err != nil {
			return err
		}
		t.count.Add(1)
	}
}
