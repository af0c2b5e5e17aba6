// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
)

// authority signs certificates.
type authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

var serial atomic.Int64

func newAuthority(t testing.TB, name string) *authority {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial.Add(1)), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{t, cert, key}
}

func (a *authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

// issue signs a certificate for a caller with some URIs, or for the server.
func (a *authority) issue(usage x509.ExtKeyUsage, change func(*x509.Certificate), uris ...string) (certificate, key []byte) {
	a.t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial.Add(1)), Subject: pkix.Name{CommonName: "somebody"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{usage},
	}
	for _, u := range uris {
		parsed, err := url.Parse(u)
		if err != nil {
			a.t.Fatal(err)
		}
		template.URIs = append(template.URIs, parsed)
	}
	if change != nil {
		change(template)
	}
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &private.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		a.t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
}

func (a *authority) caller(uris ...string) tls.Certificate {
	return a.callerWith(nil, uris...)
}

func (a *authority) callerWith(change func(*x509.Certificate), uris ...string) tls.Certificate {
	a.t.Helper()
	pair, err := tls.X509KeyPair(a.issue(x509.ExtKeyUsageClientAuth, change, uris...))
	if err != nil {
		a.t.Fatal(err)
	}
	return pair
}

// revoke is a list of revoked certificates.
func (a *authority) revoke(certificates ...tls.Certificate) []byte {
	list := &x509.RevocationList{Number: big.NewInt(serial.Add(1)), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour)}
	for _, c := range certificates {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: c.Leaf.SerialNumber, RevocationTime: time.Now()})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, a.cert, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
}

// logBuffer is a log for tests to look into.
type logBuffer struct {
	mu    sync.Mutex
	text  bytes.Buffer
	wrote chan struct{} // closed at the next line
}

func newLogBuffer() *logBuffer { return &logBuffer{wrote: make(chan struct{})} }

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.wrote)
	l.wrote = make(chan struct{})
	return l.text.Write(p)
}

func (l *logBuffer) count(text string) (n int, more <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), text), l.wrote
}

// says waits until the log says something: clients learn that they are refused before it is written.
func (l *logBuffer) says(text string) bool {
	timeout := time.After(patience)
	for {
		n, more := l.count(text)
		if n > 0 {
			return true
		}
		select {
		case <-more:
		case <-timeout:
			return false
		}
	}
}

// tlsBed is a server on a TCP port.
type tlsBed struct {
	*bed
	files   TLSFiles
	log     *logBuffer
	address string
	ca      *authority // of the server and of its callers
	now     atomic.Pointer[time.Time]
}

const operatorARN = "arn:aws:iam::999999999999:user/operator"

func newTLSBed(t *testing.T) *tlsBed {
	b := &tlsBed{log: newLogBuffer(), ca: newAuthority(t, "ca")}
	b.bed = newBed(t, func(o *Options) {
		o.Operators = []string{operatorARN}
		o.Now = b.time
	})
	dir := t.TempDir()
	b.files = TLSFiles{
		Certificate: filepath.Join(dir, "server.pem"), Key: filepath.Join(dir, "server.key"),
		ClientCA: filepath.Join(dir, "ca.pem"), ClientCRL: filepath.Join(dir, "crl.pem"),
	}
	b.serverCertificate()
	b.write(b.files.ClientCA, b.ca.pem())
	b.write(b.files.ClientCRL, b.ca.revoke())
	creds, err := TLS(b.files, "aws", slog.New(slog.NewTextHandler(b.log, nil)))
	b.must(err)
	g := grpc.NewServer(append(b.server.ServerOptions(), grpc.Creds(creds))...)
	b.server.Register(g)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	b.must(err)
	b.address = listener.Addr().String()
	done := make(chan error, 1)
	go func() { done <- g.Serve(listener) }()
	b.end = append(b.end, func() { g.Stop(); <-done })
	return b
}

func (b *tlsBed) time() time.Time {
	if now := b.now.Load(); now != nil {
		return *now
	}
	return time.Now()
}

// write replaces a file, as certificate managers do.
func (b *tlsBed) write(path string, data []byte) {
	b.t.Helper()
	b.must(os.WriteFile(path+".new", data, 0o600))
	b.must(os.Rename(path+".new", path))
}

func (b *tlsBed) serverCertificate() {
	certificate, key := b.ca.issue(x509.ExtKeyUsageServerAuth, nil)
	b.write(b.files.Certificate, certificate)
	b.write(b.files.Key, key)
}

// connect dials with certificates; none is no certificate.
func (b *tlsBed) connect(certificates ...tls.Certificate) *client {
	b.t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(b.ca.cert)
	conn, err := grpc.NewClient(b.address, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
		RootCAs: roots, Certificates: certificates, ServerName: "localhost", MinVersion: tls.VersionTLS12,
	})))
	b.must(err)
	b.t.Cleanup(func() { conn.Close() })
	return newClient(b.t, conn)
}

func whoAmI(c *client) (*apiv1.WhoAmIResponse, error) {
	ctx, cancel := context.WithTimeout(c.ctx, patience)
	defer cancel()
	return c.WhoAmI(ctx, &apiv1.WhoAmIRequest{})
}

const annARN = "arn:aws:iam::222222222222:user/ann"

func TestCertificatesNameCallers(t *testing.T) {
	b := newTLSBed(t)
	for _, test := range []struct {
		arn, account string
		operator     bool
	}{
		{annARN, consumerAccount, false},
		{"arn:aws:iam::222222222222:root", consumerAccount, false},
		{"arn:aws:iam::222222222222:role/path/to/it", consumerAccount, false},
		{"arn:aws:sts::222222222222:assumed-role/it/session", consumerAccount, false},
		{operatorARN, "999999999999", true},
	} {
		got, err := whoAmI(b.connect(b.ca.caller(test.arn)))
		if err != nil || got.Principal != test.arn || got.Account != test.account || got.Operator != test.operator {
			t.Errorf("%s is %v, %v", test.arn, got, err)
		}
	}
}

func TestBadCertificatesAreRefused(t *testing.T) {
	b := newTLSBed(t)
	foreign := newAuthority(t, "ca") // of the same name
	expired := func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }
	early := func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }
	server := func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }
	revoked := b.ca.caller(annARN)
	b.write(b.files.ClientCRL, b.ca.revoke(b.ca.caller("arn:aws:iam::222222222222:user/bob"), revoked))
	forged := b.ca.caller(annARN)
	forged.Certificate[0] = bytes.Replace(forged.Certificate[0], []byte("user/ann"), []byte("user/bob"), 1)
	for _, test := range []struct {
		name         string
		certificates []tls.Certificate
		log          string
	}{
		{"none", nil, "client didn't provide a certificate"},
		{"of a foreign authority", []tls.Certificate{foreign.caller(annARN)}, "certificate signed by unknown authority"},
		{"forged", []tls.Certificate{forged}, "certificate signed by unknown authority"},
		{"expired", []tls.Certificate{b.ca.callerWith(expired, annARN)}, "expired"},
		{"not yet valid", []tls.Certificate{b.ca.callerWith(early, annARN)}, "not yet valid"},
		{"a server's", []tls.Certificate{b.ca.callerWith(server, annARN)}, "incompatible key usage"},
		{"revoked", []tls.Certificate{revoked}, "is revoked"},
		{"without a URI", []tls.Certificate{b.ca.caller()}, "names 0 URIs"},
		{"with two URIs", []tls.Certificate{b.ca.caller(annARN, operatorARN)}, "names 2 URIs"},
		{"of no principal", []tls.Certificate{b.ca.caller("spiffe://example.org/ann")}, "is no principal"},
		{"of a bucket", []tls.Certificate{b.ca.caller("arn:aws:s3::222222222222:user/ann")}, "is no principal"},
		{"of another partition", []tls.Certificate{b.ca.caller("arn:aws-cn:iam::222222222222:user/ann")}, "is no principal"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := whoAmI(b.connect(test.certificates...))
			if status.Code(err) != codes.Unavailable {
				t.Errorf("got %v", err)
			}
			if !b.log.says(test.log) {
				t.Errorf("the log does not say %q", test.log)
			}
		})
	}
	got, err := whoAmI(b.connect(b.ca.caller(annARN)))
	if err != nil || got.Account != consumerAccount {
		t.Errorf("a good one gets %v, %v", got, err)
	}
}

func TestOldVersionsOfTLSAreRefused(t *testing.T) {
	b := newTLSBed(t)
	conn, err := tls.Dial("tcp", b.address, &tls.Config{
		InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12, Certificates: []tls.Certificate{b.ca.caller(annARN)}, NextProtos: []string{"h2"},
	})
	if err == nil {
		conn.Close()
		t.Error("TLS 1.2 was taken")
	}
}

func TestFilesAreReadAgain(t *testing.T) {
	b := newTLSBed(t)
	ann := b.ca.caller(annARN)
	open := b.connect(ann)
	stream := open.watch(t, &apiv1.WatchRequest{Collections: []string{"vpcs"}})
	stream.want()
	leaf := func() string {
		roots := x509.NewCertPool()
		roots.AddCert(b.ca.cert)
		conn, err := tls.Dial("tcp", b.address, &tls.Config{RootCAs: roots, ServerName: "localhost", Certificates: []tls.Certificate{ann}, NextProtos: []string{"h2"}})
		b.must(err)
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	first := leaf()
	b.serverCertificate()
	second := leaf()
	if first == second {
		t.Error("a new certificate of the server is not used")
	}
	// One that is broken changes nothing, and is told of once.
	b.write(b.files.Key, []byte("no key"))
	for range 3 {
		if leaf() != second {
			t.Error("the last good certificate is not used")
		}
	}
	if n, _ := b.log.count("are no good"); n != 1 {
		t.Errorf("broken files are told of %d times", n)
	}
	b.serverCertificate()
	// A new authority: connections that the earlier one vouched for do not go on.
	other := newAuthority(t, "other")
	b.write(b.files.ClientCRL, other.revoke())
	b.write(b.files.ClientCA, other.pem())
	_, err := whoAmI(open)
	refused(t, err, codes.Unauthenticated, "")
	c := b.as(consumer)
	b.makeVPC(c, "news")
	_, err = stream.stream.Recv()
	refused(t, err, codes.Unauthenticated, "")
	if _, err := whoAmI(b.connect(other.caller(annARN))); err != nil {
		t.Errorf("a caller of the new authority gets %v", err)
	}
}

func TestConnectionsDoNotOutliveCertificates(t *testing.T) {
	b := newTLSBed(t)
	ann, bob := b.ca.caller(annARN), b.ca.caller("arn:aws:iam::222222222222:user/bob")
	anns, bobs := b.connect(ann), b.connect(bob)
	for _, c := range []*client{anns, bobs} {
		_, err := whoAmI(c)
		b.must(err)
	}
	b.write(b.files.ClientCRL, b.ca.revoke(bob))
	_, err := whoAmI(bobs)
	refused(t, err, codes.Unauthenticated, "")
	_, err = whoAmI(anns)
	b.must(err)
	later := time.Now().Add(2 * time.Hour)
	b.now.Store(&later)
	_, err = whoAmI(anns)
	refused(t, err, codes.Unauthenticated, "")
	if text := status.Convert(err).Message(); !strings.Contains(text, "expired") {
		t.Errorf("told %q", text)
	}
}

func TestFilesThatAreNoGoodAtFirst(t *testing.T) {
	b := newTLSBed(t)
	other := newAuthority(t, "other")
	for name, change := range map[string]func(*TLSFiles){
		"no certificate": func(f *TLSFiles) { f.Certificate = "/nonexistent" },
		"a wrong key": func(f *TLSFiles) {
			f.Key = f.Key + "2"
			_, key := other.issue(x509.ExtKeyUsageServerAuth, nil)
			b.write(f.Key, key)
		},
		"no authority":               func(f *TLSFiles) { f.ClientCA = "/nonexistent" },
		"a key for an authority":     func(f *TLSFiles) { f.ClientCA = f.Key },
		"no list":                    func(f *TLSFiles) { f.ClientCRL = "/nonexistent" },
		"a certificate for a list":   func(f *TLSFiles) { f.ClientCRL = f.ClientCA },
		"a list of a foreign issuer": func(f *TLSFiles) { f.ClientCRL += "2"; b.write(f.ClientCRL, other.revoke()) },
	} {
		t.Run(name, func(t *testing.T) {
			files := b.files
			change(&files)
			if _, err := TLS(files, "aws", slog.Default()); err == nil {
				t.Error("taken")
			} else {
				t.Log(err)
			}
		})
	}
}
