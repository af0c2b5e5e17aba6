// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"syscall"
	"time"

	"github.com/isthmus-net/isthmus/pkg/vpc"
	"github.com/isthmus-net/isthmus/pkg/wire"
)

const (
	// maxAnswer is how much of an HTTP answer is read to find its status, in bytes.
	maxAnswer = 64 << 10
	// maxInterim is how many answers of the 1xx class may come before the one that counts.
	maxInterim = 8
)

// probe is what one check of a target does. Probes are compared with == to find out whether a check has changed.
type probe struct {
	protocol vpc.CheckProtocol
	to       netip.AddrPort // on the probe port
	proxy    bool           // the group's targets expect a PROXY header
	timeout  time.Duration  // of connection and answer together

	// HTTP and HTTPS only.
	host, path string
	low, high  int
}

// run makes one check; nil is a success.
func (p *probe) run(ctx context.Context, dial dialFunc) error {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	conn, err := dial(ctx, p.to)
	if err != nil {
		return p.explain(err)
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	conn.SetDeadline(deadline)
	if p.proxy {
		// LOCAL: the connection speaks for nobody but the load balancer itself.
		var header [wire.ProxyV2IPv4Len]byte
		n := wire.PutProxyV2Local(header[:])
		if _, err := conn.Write(header[:n]); err != nil {
			return p.explain(err)
		}
	}
	switch p.protocol {
	case vpc.CheckHTTP:
		return p.explain(p.get(conn))
	case vpc.CheckHTTPS:
		return p.explain(p.getSecure(ctx, conn))
	}
	return nil
}

// getSecure is get over TLS. As on AWS, whose load balancers do not verify the certificates of targets and fail the checks
// of targets that know TLS 1.3 only, the answer counts and not who gives it.
func (p *probe) getSecure(ctx context.Context, conn net.Conn) error {
	secure := tls.Client(conn, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS12})
	if err := secure.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("no TLS: %w", err)
	}
	return p.get(secure)
}

// get makes a GET request on a connection and judges the status of the answer.
func (p *probe) get(conn net.Conn) error {
	// Written by hand, for the path is sent as it was configured.
	request := "GET " + p.path + " HTTP/1.1\r\nHost: " + p.host + "\r\nUser-Agent: isthmus-health-check\r\nAccept: */*\r\nConnection: close\r\n\r\n"
	if _, err := io.WriteString(conn, request); err != nil {
		return err
	}
	answers := bufio.NewReader(io.LimitReader(conn, maxAnswer))
	for range maxInterim {
		answer, err := http.ReadResponse(answers, &http.Request{Method: http.MethodGet})
		if err != nil {
			return fmt.Errorf("no HTTP answer: %w", err)
		}
		answer.Body.Close()
		if code := answer.StatusCode; code >= 200 || code == http.StatusSwitchingProtocols {
			if code < p.low || code > p.high {
				return fmt.Errorf("status %d is not in %d-%d", code, p.low, p.high)
			}
			return nil
		}
	}
	return errors.New("no HTTP answer: only interim ones")
}

// explain shortens what the network says to what an operator asks.
func (p *probe) explain(err error) error {
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("no answer in %s", p.timeout)
	case errors.Is(err, syscall.ECONNREFUSED):
		return errors.New("connection refused")
	}
	return err
}
