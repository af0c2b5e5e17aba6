// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
)

// TLSFiles are the files that mutual TLS stands on, all in PEM. They are read again when they change.
type TLSFiles struct {
	// Certificate and Key are the server's.
	Certificate, Key string
	// ClientCA has the certificates of the authorities that name callers.
	ClientCA string
	// ClientCRL has revocation lists of these authorities; optional.
	ClientCRL string
}

func (f TLSFiles) paths() []string {
	paths := []string{f.Certificate, f.Key, f.ClientCA}
	if f.ClientCRL != "" {
		paths = append(paths, f.ClientCRL)
	}
	return paths
}

// trust is what the files said when they were last good. It is immutable.
type trust struct {
	certificate tls.Certificate
	pool        *x509.CertPool
	// revoked has serial numbers by the issuer's raw subject.
	revoked map[string]map[string]bool
}

// keyring hands out the trust that the files say, or said last.
type keyring struct {
	files TLSFiles
	log   *slog.Logger

	mu      sync.Mutex
	current *trust
	seen    []fs.FileInfo // when the files were read last, well or not
}

// newKeyring reads the files for the first time: then they must be good.
func newKeyring(files TLSFiles, log *slog.Logger) (*keyring, error) {
	k := &keyring{files: files, log: log, seen: stats(files.paths())}
	var err error
	if k.current, err = load(files); err != nil {
		return nil, err
	}
	return k, nil
}

// get reads the files again if they have changed. New ones that are no good are told of once and change nothing.
func (k *keyring) get() *trust {
	k.mu.Lock()
	defer k.mu.Unlock()
	seen := stats(k.files.paths())
	if sameFiles(seen, k.seen) {
		return k.current
	}
	// Stat comes before reading: a file that changes in between is read again at the next call.
	k.seen = seen
	loaded, err := load(k.files)
	if err != nil {
		k.log.Error("TLS files have changed and are no good; the last good ones stay in force", "error", err)
		return k.current
	}
	k.log.Info("TLS files have changed and are in force", "certificate", k.files.Certificate)
	k.current = loaded
	return loaded
}

// stats has nil for what cannot be looked at.
func stats(paths []string) []fs.FileInfo {
	infos := make([]fs.FileInfo, len(paths))
	for i, path := range paths {
		if info, err := os.Stat(path); err == nil {
			infos[i] = info
		}
	}
	return infos
}

func sameFiles(a, b []fs.FileInfo) bool {
	for i := range a {
		if (a[i] == nil) != (b[i] == nil) {
			return false
		}
		if a[i] != nil && !(os.SameFile(a[i], b[i]) && a[i].Size() == b[i].Size() && a[i].ModTime().Equal(b[i].ModTime())) {
			return false
		}
	}
	return true
}

func load(files TLSFiles) (*trust, error) {
	certificate, err := tls.LoadX509KeyPair(files.Certificate, files.Key)
	if err != nil {
		return nil, fmt.Errorf("reading the certificate %s and its key %s: %w", files.Certificate, files.Key, err)
	}
	authorities, err := os.ReadFile(files.ClientCA)
	if err != nil {
		return nil, fmt.Errorf("reading the authorities of callers: %w", err)
	}
	t := &trust{certificate: certificate, pool: x509.NewCertPool()}
	issuers, err := parseCertificates(authorities)
	if err != nil {
		return nil, fmt.Errorf("reading the authorities of callers in %s: %w", files.ClientCA, err)
	}
	for _, issuer := range issuers {
		t.pool.AddCert(issuer)
	}
	if files.ClientCRL == "" {
		return t, nil
	}
	lists, err := os.ReadFile(files.ClientCRL)
	if err != nil {
		return nil, fmt.Errorf("reading revoked certificates: %w", err)
	}
	if t.revoked, err = parseRevoked(lists, issuers); err != nil {
		return nil, fmt.Errorf("reading revoked certificates in %s: %w", files.ClientCRL, err)
	}
	return t, nil
}

func parseCertificates(data []byte) (certificates []*x509.Certificate, err error) {
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		certificates = append(certificates, c)
	}
	if len(certificates) == 0 {
		return nil, errors.New("it has no certificate in PEM")
	}
	return certificates, nil
}

// parseRevoked takes only lists that one of the authorities has signed. Their NextUpdate is not asked about: a list that
// is late is still better than none.
func parseRevoked(data []byte, issuers []*x509.Certificate) (map[string]map[string]bool, error) {
	revoked := map[string]map[string]bool{}
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "X509 CRL" {
			continue
		}
		list, err := x509.ParseRevocationList(block.Bytes)
		if err != nil {
			return nil, err
		}
		if !signedByAny(list, issuers) {
			return nil, fmt.Errorf("the list of %s is signed by no authority of callers", list.Issuer)
		}
		serials := revoked[string(list.RawIssuer)]
		if serials == nil {
			serials = map[string]bool{}
			revoked[string(list.RawIssuer)] = serials
		}
		for _, entry := range list.RevokedCertificateEntries {
			serials[entry.SerialNumber.String()] = true
		}
	}
	if len(revoked) == 0 {
		return nil, errors.New("it has no revocation list in PEM")
	}
	return revoked, nil
}

func signedByAny(list *x509.RevocationList, issuers []*x509.Certificate) bool {
	for _, issuer := range issuers {
		if list.CheckSignatureFrom(issuer) == nil {
			return true
		}
	}
	return false
}
