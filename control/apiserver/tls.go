// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/credentials"
)

// tlsPeer is a caller that a certificate names. The certificate is judged again at every call, because a connection may
// outlive it.
type tlsPeer struct {
	credentials.CommonAuthInfo

	principal     string
	leaf          *x509.Certificate
	intermediates *x509.CertPool
	keys          *keyring
	// checked is the trust under which the chain was verified last, so that it is verified once for each.
	checked atomic.Pointer[trust]
}

// AuthType makes tlsPeer a credentials.AuthInfo.
func (*tlsPeer) AuthType() string { return "tls" }

// valid says whether the certificate is still good.
func (p *tlsPeer) valid(now time.Time) error {
	if now.After(p.leaf.NotAfter) {
		return fmt.Errorf("the certificate has expired on %s; present a new one", p.leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	t := p.keys.get()
	if p.checked.Load() == t {
		return nil
	}
	if err := t.verify(p.leaf, p.intermediates, now); err != nil {
		return err
	}
	p.checked.Store(t)
	return nil
}

// verify says whether one of the authorities vouches for a client's certificate.
func (t *trust) verify(leaf *x509.Certificate, intermediates *x509.CertPool, now time.Time) error {
	chains, err := leaf.Verify(x509.VerifyOptions{
		Roots:         t.pool,
		Intermediates: intermediates,
		CurrentTime:   now,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return fmt.Errorf("the certificate is not good: %w", err)
	}
	for _, c := range chains[0] {
		if t.revoked[string(c.RawIssuer)][c.SerialNumber.String()] {
			return fmt.Errorf("the certificate with serial number %s is revoked; present a new one", c.SerialNumber)
		}
	}
	return nil
}

// tlsCredentials does mutual TLS with what a keyring has at each handshake.
type tlsCredentials struct {
	inner     credentials.TransportCredentials
	keys      *keyring
	partition string
	now       func() time.Time
	log       *slog.Logger
}

// TLS returns the transport credentials of a server on TCP: TLS 1.3, and a certificate of the caller's that one of the
// authorities has signed for client authentication and that has one URI among its names, the ARN of the principal. The
// files are looked at before each handshake and read again when they have changed. Partition is that of ARNs: aws.
// Who is refused, and why, is logged; the other end learns no more than TLS tells it.
func TLS(files TLSFiles, partition string, log *slog.Logger) (credentials.TransportCredentials, error) {
	keys, err := newKeyring(files, log)
	if err != nil {
		return nil, err
	}
	c := &tlsCredentials{keys: keys, partition: partition, now: time.Now, log: log}
	c.inner = credentials.NewTLS(&tls.Config{
		MinVersion:         tls.VersionTLS13,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return c.config(), nil },
	})
	return c, nil
}

// config is that of one handshake.
func (c *tlsCredentials) config() *tls.Config {
	t := c.keys.get()
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		NextProtos:   []string{"h2"},
		Certificates: []tls.Certificate{t.certificate},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    t.pool,
		Time:         c.now,
		VerifyConnection: func(state tls.ConnectionState) error {
			leaf, intermediates := chainOf(state.PeerCertificates)
			if err := t.verify(leaf, intermediates, c.now()); err != nil {
				return err
			}
			_, err := c.principal(leaf)
			return err
		},
	}
}

func chainOf(certificates []*x509.Certificate) (*x509.Certificate, *x509.CertPool) {
	pool := x509.NewCertPool()
	for _, c := range certificates[1:] {
		pool.AddCert(c)
	}
	return certificates[0], pool
}

// principal is the ARN that a certificate names.
func (c *tlsCredentials) principal(leaf *x509.Certificate) (string, error) {
	if len(leaf.URIs) != 1 {
		return "", fmt.Errorf("the certificate names %d URIs as its subject; it must name one, the ARN of the principal", len(leaf.URIs))
	}
	arn := leaf.URIs[0].String()
	if _, err := accountOf(arn, c.partition); err != nil {
		return "", fmt.Errorf("the certificate's URI: %w", err)
	}
	return arn, nil
}

// ServerHandshake does the handshake and remembers whom the certificate names.
func (c *tlsCredentials) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := c.inner.ServerHandshake(raw)
	if err != nil {
		c.log.Warn("refused a connection", "from", raw.RemoteAddr().String(), "error", err)
		return nil, nil, err
	}
	state := info.(credentials.TLSInfo).State
	leaf, intermediates := chainOf(state.PeerCertificates)
	principal, err := c.principal(leaf)
	if err != nil {
		conn.Close()
		return nil, nil, err
	}
	security := credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}
	return conn, &tlsPeer{CommonAuthInfo: security, principal: principal, leaf: leaf, intermediates: intermediates, keys: c.keys}, nil
}

func (c *tlsCredentials) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("these credentials are a server's")
}

func (c *tlsCredentials) Info() credentials.ProtocolInfo { return c.inner.Info() }

func (c *tlsCredentials) Clone() credentials.TransportCredentials {
	clone := *c
	clone.inner = c.inner.Clone()
	return &clone
}

// OverrideServerName is part of an interface; it concerns clients.
func (c *tlsCredentials) OverrideServerName(string) error { return nil }
