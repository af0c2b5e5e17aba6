// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
)

// Answer is what the built-in HTTP server says of a request.
type Answer struct {
	// Instance is the server's own name.
	Instance string `json:"instance"`
	// Remote is the source address and port of the connection as the server's kernel saw it.
	Remote string `json:"remote"`
	// Proxy is what the PROXY protocol header said; nil when the server requires none.
	Proxy *Proxy `json:"proxy,omitempty"`
	Path  string `json:"path"`
}

// Digest is the answer to POST /hash.
type Digest struct {
	SHA256 string `json:"sha256"`
	Length int64  `json:"length"`
}

// connKey is the key of a request's net.Conn in its context.
type connKey struct{}

// Handler is the built-in HTTP server:
//
//	GET  /bytes?n=N   N bytes of Pattern
//	POST /hash        the Digest of the body
//	GET  /hold        101, and from then on an echo of every byte: a connection to keep
//	GET  any other    an Answer
func Handler(instance string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		answer := Answer{Instance: instance, Path: r.URL.Path}
		if c, ok := r.Context().Value(connKey{}).(net.Conn); ok {
			var err error
			if answer.Remote, answer.Proxy, err = origin(c); err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
		}
		writeJSON(w, answer)
	})
	mux.HandleFunc("GET /bytes", func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.ParseInt(r.URL.Query().Get("n"), 10, 64)
		if err != nil || n < 0 {
			http.Error(w, "n is missing or no number; ask for /bytes?n=1000", http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
		io.Copy(w, Pattern(n))
	})
	mux.HandleFunc("POST /hash", func(w http.ResponseWriter, r *http.Request) {
		hash := sha256.New()
		n, err := io.Copy(hash, r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		writeJSON(w, Digest{SHA256: hex.EncodeToString(hash.Sum(nil)), Length: n})
	})
	mux.HandleFunc("GET /hold", hold101)
	return mux
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(v)
}

// hold101 takes the connection away from HTTP and echoes.
func hold101(w http.ResponseWriter, r *http.Request) {
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer conn.Close()
	stop := context.AfterFunc(r.Context(), func() { conn.Close() }) // the server no longer knows the connection
	defer stop()
	io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	io.Copy(conn, buffered)
}

// period is the length after which Pattern repeats: odd, so that no offset in it falls on the same place in two
// segments of usual sizes.
const period = 1<<20 - 3

var pattern = sync.OnceValue(func() []byte {
	b := make([]byte, period)
	x := uint64(0x9e3779b97f4a7c15)
	for i := range b {
		// xorshift64: cheap, and the same everywhere for good.
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b[i] = byte(x >> 56)
	}
	return b
})

// Pattern reads n pseudo-random bytes, always the same. They repeat after a little less than 1 MiB.
func Pattern(n int64) io.Reader {
	return io.LimitReader(&patternReader{}, n)
}

type patternReader struct{ at int }

func (r *patternReader) Read(b []byte) (int, error) {
	n := copy(b, pattern()[r.at:])
	r.at = (r.at + n) % period
	return n, nil
}
