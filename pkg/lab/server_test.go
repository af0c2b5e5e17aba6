// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// header is a PROXY protocol header in the form of a load balancer: 10.0.3.7:45678 to 10.0.9.9:80 through endpoint
// vpce-0123456789abcdef0, with its CRC.
var header = func() []byte {
	b, err := hex.DecodeString("0d0a0d0a000d0a515549540a21110054" + "0a0003070a000909b26e0050" + "03000442a7aff5" +
		"ea001701" + hex.EncodeToString([]byte("vpce-0123456789abcdef0")) + "040024" + strings.Repeat("00", 36))
	if err != nil {
		panic(err)
	}
	return b
}()

// local is the header of a health check: the LOCAL command without addresses.
var local = func() []byte {
	b, err := hex.DecodeString("0d0a0d0a000d0a515549540a20110054" + "030004bce5951f04004a" + strings.Repeat("00", 74))
	if err != nil {
		panic(err)
	}
	return b
}()

// serve runs a server on the loopback and returns how to connect to it.
func serve(t *testing.T, o ServerOptions) (dial func() net.Conn) {
	t.Helper()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, listener, o) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("Serve: %v", err)
			}
		case <-time.After(10 * time.Second):
			t.Error("Serve does not end with its context")
		}
	})
	return func() net.Conn {
		t.Helper()
		conn, err := net.Dial("tcp4", listener.Addr().String())
		must(t, err)
		must(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
		t.Cleanup(func() { conn.Close() })
		return conn
	}
}

// get sends a prefix and a request on one connection and reads the answer.
func get(t *testing.T, conn net.Conn, prefix []byte, request *http.Request) (*http.Response, error) {
	t.Helper()
	var b bytes.Buffer
	b.Write(prefix)
	must(t, request.Write(&b))
	if _, err := conn.Write(b.Bytes()); err != nil {
		return nil, err
	}
	return http.ReadResponse(bufio.NewReader(conn), request)
}

func request(t *testing.T, method, path string, body io.Reader) *http.Request {
	t.Helper()
	r, err := http.NewRequest(method, "http://server"+path, body)
	must(t, err)
	return r
}

func TestHTTPAnswers(t *testing.T) {
	endpoint := &Proxy{Source: "10.0.3.7:45678", Destination: "10.0.9.9:80", EndpointID: "vpce-0123456789abcdef0"}
	v1 := []byte("PROXY TCP4 10.0.3.7 10.0.9.9 45678 80\r\n")
	tests := []struct {
		name   string
		proxy  bool
		prefix []byte
		want   *Proxy
		closed bool
	}{
		{name: "plain"},
		{name: "header", proxy: true, prefix: header, want: endpoint},
		{name: "health check", proxy: true, prefix: local, want: &Proxy{Local: true}},
		{name: "version 1", proxy: true, prefix: v1, want: &Proxy{Source: "10.0.3.7:45678", Destination: "10.0.9.9:80"}},
		{name: "no header where one is required", proxy: true, closed: true},
		{name: "wrong CRC", proxy: true, prefix: bytes.Replace(header, []byte{0xb2, 0x6e}, []byte{0xb2, 0x6f}, 1), closed: true},
		{name: "header where none is required", prefix: header, closed: true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			conn := serve(t, ServerOptions{Kind: HTTP, Instance: "web1", ProxyProtocol: test.proxy})()
			response, err := get(t, conn, test.prefix, request(t, "GET", "/some/where", nil))
			if test.closed {
				if err == nil && response.StatusCode == http.StatusOK {
					t.Error("the request was answered")
				}
				return
			}
			must(t, err)
			var got Answer
			must(t, json.NewDecoder(response.Body).Decode(&got))
			want := Answer{Instance: "web1", Remote: conn.LocalAddr().String(), Proxy: test.want, Path: "/some/where"}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestHTTPBodies(t *testing.T) {
	dial := serve(t, ServerOptions{Kind: HTTP})
	const n = 3<<20 + 7
	hash := sha256.New()
	io.Copy(hash, Pattern(n))
	want := Digest{SHA256: hex.EncodeToString(hash.Sum(nil)), Length: n}

	response, err := get(t, dial(), nil, request(t, "GET", "/bytes?n=3145735", nil))
	must(t, err)
	hash.Reset()
	length, err := io.Copy(hash, response.Body)
	must(t, err)
	if got := (Digest{hex.EncodeToString(hash.Sum(nil)), length}); got != want {
		t.Errorf("received %+v, want %+v", got, want)
	}

	response, err = get(t, dial(), nil, request(t, "POST", "/hash", Pattern(n)))
	must(t, err)
	var got Digest
	must(t, json.NewDecoder(response.Body).Decode(&got))
	if got != want {
		t.Errorf("sent %+v, want %+v", got, want)
	}

	response, err = get(t, dial(), nil, request(t, "GET", "/bytes?n=many", nil))
	must(t, err)
	if response.StatusCode != http.StatusBadRequest {
		t.Errorf("status %s for a number that is none", response.Status)
	}
}

func TestHTTPHold(t *testing.T) {
	conn := serve(t, ServerOptions{Kind: HTTP, ProxyProtocol: true})()
	response, err := get(t, conn, header, request(t, "GET", "/hold", nil))
	must(t, err)
	if response.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("status %s", response.Status)
	}
	echoes(t, conn, conn)
}

// echoes checks that what is sent comes back.
func echoes(t *testing.T, conn net.Conn, reader io.Reader) {
	t.Helper()
	for range 3 {
		_, err := io.WriteString(conn, "hello\n")
		must(t, err)
		got := make([]byte, 6)
		_, err = io.ReadFull(reader, got)
		must(t, err)
		if string(got) != "hello\n" {
			t.Fatalf("echo %q", got)
		}
	}
}

func TestEcho(t *testing.T) {
	conn := serve(t, ServerOptions{Kind: Echo})()
	echoes(t, conn, conn)
	conn = serve(t, ServerOptions{Kind: Echo, ProxyProtocol: true})()
	_, err := conn.Write(header)
	must(t, err)
	echoes(t, conn, conn)
}

func TestBannerSpeaksFirst(t *testing.T) {
	for _, proxy := range []bool{false, true} {
		conn := serve(t, ServerOptions{Kind: Banner, Instance: "mail", ProxyProtocol: proxy})()
		want := "220 mail remote=" + conn.LocalAddr().String()
		if proxy {
			_, err := conn.Write(header)
			must(t, err)
			want += " src=10.0.3.7:45678 dst=10.0.9.9:80 endpoint=vpce-0123456789abcdef0"
		}
		reader := bufio.NewReader(conn)
		line, err := reader.ReadString('\n')
		must(t, err)
		if line != want+"\r\n" {
			t.Errorf("banner %q, want %q", line, want)
		}
		echoes(t, conn, reader)
	}
}

func TestServeRefusesUnknownKind(t *testing.T) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	must(t, err)
	if err := Serve(context.Background(), listener, ServerOptions{Kind: "gopher"}); err == nil {
		t.Error("a server that does not exist serves")
	}
	if err := ServeInherited(context.Background(), []string{"--colour=red"}); err == nil {
		t.Error("an unknown flag is accepted")
	}
}
