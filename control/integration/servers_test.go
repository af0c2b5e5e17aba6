// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"

	proxyproto "github.com/pires/go-proxyproto"
	"github.com/pires/go-proxyproto/tlvparse"

	"github.com/isthmus-net/isthmus/pkg/lab"
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// Ports of the servers, at the endpoint and at the target.
const (
	nginxPort   = 8001
	haproxyPort = 8002
	goPort      = 8003
	originPort  = 9000 // at the target's loopback: what nginx and HAProxy hand requests on to
)

// Response headers in which the servers say what the PROXY protocol header told them.
const (
	sourceHeader   = "X-Source"
	endpointHeader = "X-Endpoint"
)

// proxied are the services of the servers.
var proxied = []service{
	{nginxPort, vpc.ProxyProtocol{Enabled: true}},
	{haproxyPort, vpc.ProxyProtocol{Enabled: true}},
	{goPort, vpc.ProxyProtocol{Enabled: true}},
}

// startServers starts all three, each of which answers as lab.Handler does and says whom it speaks to.
func (b *bed) startServers() {
	b.Helper()
	nginx, haproxy := find(b, "nginx"), find(b, "haproxy")
	b.serve(originPort, func(l net.Listener) net.Listener { return l })
	b.serve(goPort, requireHeader)

	dir := b.TempDir()
	config := filepath.Join(dir, "nginx.conf")
	b.write(config, fmt.Sprintf(nginxConfig, dir, dir, dir, dir, dir, dir, dir, nginxPort, originPort))
	start(b, b.provider, nginx, "-c", config, "-p", dir, "-e", filepath.Join(dir, "error.log"))
	config = filepath.Join(dir, "haproxy.cfg")
	b.write(config, fmt.Sprintf(haproxyConfig, haproxyPort, originPort))
	start(b, b.provider, haproxy, "-db", "-q", "-f", config)
	listening(b, b.provider, nginxPort)
	listening(b, b.provider, haproxyPort)
}

func (b *bed) write(file, content string) {
	b.Helper()
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		b.Fatal(err)
	}
}

const nginxConfig = `
daemon off;
master_process off;
worker_rlimit_nofile 16384;
pid %s/nginx.pid;
events { worker_connections 4096; }
http {
    access_log off;
    client_max_body_size 0;
    client_body_temp_path %s/body;
    proxy_temp_path %s/proxy;
    fastcgi_temp_path %s/fastcgi;
    uwsgi_temp_path %s/uwsgi;
    scgi_temp_path %s/scgi;
    error_log %s/error.log warn;
    server {
        listen %d proxy_protocol backlog=4096;
        add_header X-Source "$proxy_protocol_addr:$proxy_protocol_port" always;
        location / { proxy_pass http://127.0.0.1:%d; }
    }
}
`

const haproxyConfig = `
global
    maxconn 8192
    nbthread 1
defaults
    mode http
    timeout connect 30s
    timeout client 60s
    timeout server 60s
frontend service
    bind :%d accept-proxy backlog 4096
    http-response set-header X-Source %%[src]:%%[src_port]
    default_backend origin
backend origin
    http-reuse never
    server origin 127.0.0.1:%d
`

// requireHeader makes a PROXY protocol header a must on every connection.
func requireHeader(l net.Listener) net.Listener {
	return &proxyproto.Listener{Listener: l, ReadHeaderTimeout: patience}
}

// connKey is the key of a request's net.Conn in its context.
type connKey struct{}

// serve serves lab.Handler inside the provider, with the source and the endpoint of the PROXY protocol header in the
// answers' headers where wrap reads one.
func (b *bed) serve(port uint16, wrap func(net.Listener) net.Listener) {
	handler := lab.Handler("origin")
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if c, ok := r.Context().Value(connKey{}).(*proxyproto.Conn); ok {
				if header := c.ProxyHeader(); header != nil {
					w.Header().Set(sourceHeader, header.SourceAddr.String())
					fields, _ := header.TLVs() // without them there is no id, which the client notices
					w.Header().Set(endpointHeader, tlvparse.FindAWSVPCEndpointID(fields))
				}
			}
			handler.ServeHTTP(w, r)
		}),
		ConnContext:       func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
		ReadHeaderTimeout: patience,
	}
	listener := wrap(b.listen(port))
	done := make(chan struct{})
	go func() {
		defer close(done)
		server.Serve(listener) // ends with ErrServerClosed
	}()
	b.Cleanup(func() {
		server.Close()
		<-done
	})
}
