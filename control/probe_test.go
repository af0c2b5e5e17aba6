// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"

	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// serve answers every connection to a loopback port with what answer does, and returns the address.
func serve(t *testing.T, answer func(net.Conn)) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				answer(c)
			}()
		}
	}()
	return netip.MustParseAddrPort(l.Addr().String())
}

// dialLoopback stands for the probe port.
func dialLoopback(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "tcp4", to.String())
}

func TestProbeHTTP(t *testing.T) {
	for name, c := range map[string]struct{ answer, want string }{
		"200":          {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", ""},
		"399":          {"HTTP/1.1 399 Fine\r\n\r\n", ""},
		"redirect":     {"HTTP/1.1 302 Found\r\nLocation: http://nowhere.invalid/\r\n\r\n", ""},
		"HTTP/1.0":     {"HTTP/1.0 200 OK\r\n\r\nbody", ""},
		"interim":      {"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", ""},
		"400":          {"HTTP/1.1 400 Bad Request\r\n\r\n", "status 400 is not in 200-399"},
		"503":          {"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 5\r\n\r\nsorry", "status 503 is not in 200-399"},
		"switching":    {"HTTP/1.1 101 Switching Protocols\r\n\r\n", "status 101 is not in 200-399"},
		"only interim": {strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 20), "no HTTP answer: only interim ones"},
		"nothing":      {"", "no HTTP answer"},
		"not HTTP":     {"SSH-2.0-server\r\n", "no HTTP answer"},
		"endless":      {"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 2*maxAnswer), "no HTTP answer"},
	} {
		requests := make(chan *http.Request, 1)
		to := serve(t, func(conn net.Conn) {
			r, err := http.ReadRequest(bufio.NewReader(conn))
			if err != nil {
				t.Errorf("%s: the request is not one: %v", name, err)
				return
			}
			requests <- r
			io.WriteString(conn, c.answer)
		})
		p := probe{protocol: vpc.CheckHTTP, to: to, timeout: 5 * time.Second, host: "10.0.1.20:80", path: "/health?a=b", low: 200, high: 399}
		err := p.run(t.Context(), dialLoopback)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.HasPrefix(err.Error(), c.want)) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
		r := <-requests
		if r.Method != "GET" || r.URL.String() != "/health?a=b" || r.Host != "10.0.1.20:80" || !r.Close {
			t.Errorf("%s: the request is %s %s to %s, close %v", name, r.Method, r.URL, r.Host, r.Close)
		}
	}
}

// TestProbeHTTPS asks servers with a certificate that nobody has signed.
func TestProbeHTTPS(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		min    uint16
		plain  bool
		want   string
	}{
		"200":          {status: 200},
		"503":          {status: 503, want: "status 503 is not in 200-399"},
		"TLS 1.3 only": {status: 200, min: tls.VersionTLS13, want: "no TLS: "},
		"no TLS":       {status: 200, plain: true, want: "no TLS: "},
	} {
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/health" || r.Host != "10.0.1.20:443" {
				t.Errorf("%s: asked %s for %s", name, r.Host, r.URL)
			}
			w.WriteHeader(c.status)
		}))
		server.Config.ErrorLog = log.New(io.Discard, "", 0)
		server.TLS = &tls.Config{MinVersion: c.min}
		if c.plain {
			server.Start()
		} else {
			server.StartTLS()
		}
		p := probe{protocol: vpc.CheckHTTPS, to: netip.MustParseAddrPort(server.Listener.Addr().String()), timeout: 5 * time.Second,
			host: "10.0.1.20:443", path: "/health", low: 200, high: 399}
		err := p.run(t.Context(), dialLoopback)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.HasPrefix(err.Error(), c.want)) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
		server.Close()
	}
}

func TestProbeTCP(t *testing.T) {
	to := serve(t, func(c net.Conn) { io.Copy(io.Discard, c) })
	p := probe{protocol: vpc.CheckTCP, to: to, timeout: 5 * time.Second}
	if err := p.run(t.Context(), dialLoopback); err != nil {
		t.Error(err)
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.to = netip.MustParseAddrPort(l.Addr().String())
	l.Close()
	if err := p.run(t.Context(), dialLoopback); err == nil || err.Error() != "connection refused" {
		t.Errorf("a closed port: %v", err)
	}
}

func TestProbeTimesOut(t *testing.T) {
	hold := make(chan struct{})
	defer close(hold)
	to := serve(t, func(net.Conn) { <-hold })
	for _, protocol := range []vpc.CheckProtocol{vpc.CheckHTTP, vpc.CheckHTTPS} {
		p := probe{protocol: protocol, to: to, timeout: 50 * time.Millisecond, path: "/"}
		if err := p.run(t.Context(), dialLoopback); err == nil || !strings.Contains(err.Error(), "no answer in 50ms") {
			t.Errorf("a server that does not answer %s: %v", protocol, err)
		}
	}
}

// TestProbeSendsLocalHeader has an independent implementation read the header, with and without a request behind it.
func TestProbeSendsLocalHeader(t *testing.T) {
	for _, protocol := range []vpc.CheckProtocol{vpc.CheckTCP, vpc.CheckHTTP} {
		headers := make(chan *proxyproto.Header, 1)
		to := serve(t, func(conn net.Conn) {
			in := bufio.NewReader(conn)
			h, err := proxyproto.Read(in)
			if err != nil {
				t.Errorf("%s: the header cannot be read: %v", protocol, err)
			}
			headers <- h
			if protocol == vpc.CheckHTTP {
				if _, err := http.ReadRequest(in); err != nil {
					t.Errorf("the request behind the header: %v", err)
				}
				io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
			}
		})
		p := probe{protocol: protocol, to: to, proxy: true, timeout: 5 * time.Second, host: "h", path: "/", low: 200, high: 200}
		if err := p.run(t.Context(), dialLoopback); err != nil {
			t.Errorf("%s: %v", protocol, err)
		}
		if h := <-headers; h == nil || !h.Command.IsLocal() || h.Version != 2 {
			t.Errorf("%s: the header is %+v", protocol, h)
		}
	}
}
