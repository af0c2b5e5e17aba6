// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/isthmus-net/isthmus/control/apiserver"
)

// authority makes certificates, and files of them in a directory.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, name string) *authority {
	a := &authority{t: t, dir: t.TempDir()}
	a.cert, a.key = a.issue(name, &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, nil, nil)
	return a
}

// issue makes a certificate and writes it and its key to files.
func (a *authority) issue(name string, template, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template.SerialNumber, template.Subject = big.NewInt(time.Now().UnixNano()), pkix.Name{CommonName: name}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{
		a.file(name + ".pem"): {Type: "CERTIFICATE", Bytes: der}, a.file(name + ".key"): {Type: "EC PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, key
}

func (a *authority) file(name string) string { return filepath.Join(a.dir, name) }

// TestCallsByTLS asks a daemon by TCP, as a principal that a certificate names.
func TestCallsByTLS(t *testing.T) {
	a := newAuthority(t, "ca")
	a.issue("server", &x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, a.cert, a.key)
	a.issue("client", &x509.Certificate{
		URIs:        []*url.URL{{Scheme: "arn", Opaque: "aws:iam::111122223333:user/ann"}},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, a.cert, a.key)
	creds, err := apiserver.TLS(apiserver.TLSFiles{Certificate: a.file("server.pem"), Key: a.file("server.key"), ClientCA: a.file("ca.pem")},
		"aws", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := newServer(t)
	g := grpc.NewServer(append(s.ServerOptions(), grpc.Creds(creds))...)
	s.Register(g)
	go g.Serve(l)
	t.Cleanup(g.Stop)

	files := " --cert " + a.file("client.pem") + " --key " + a.file("client.key") + " --ca "
	line := "whoami -o yaml --address " + l.Addr().String()
	want := "principal: arn:aws:iam::111122223333:user/ann\naccount: \"111122223333\"\n"
	if out := does(t, line+files+a.file("ca.pem")); out != want {
		t.Errorf("the caller is\n%s", out)
	}
	fails(t, exitUsage, line, "needs --cert, --key and --ca")
	fails(t, exitFailed, line+files+a.file("client.key"), "has no certificate in PEM")
	fails(t, exitFailed, line+files+a.file("nothing"), "no such file")
	other := newAuthority(t, "other")
	fails(t, exitFailed, line+files+other.file("other.pem"), "certificate signed by unknown authority")
	fails(t, exitUsage, "whoami --address 127.0.0.1"+files+a.file("ca.pem"), "is not HOST:PORT")
	g.Stop()
	fails(t, exitNoDaemon, line+files+a.file("ca.pem"), "tls section")
}
