// SPDX-License-Identifier: AGPL-3.0-or-later

// Package certs makes authorities, and the certificates that they issue, for tests of
// TLS.
package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/test/must"
)

// An Authority issues certificates.
type Authority struct {
	File string // its own certificate, in PEM
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// New makes one, whose certificate it writes to a file.
func New(t testing.TB, file string) *Authority {
	t.Helper()
	a := &Authority{File: file, key: newKey(t)}
	a.cert = &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: filepath.Base(file)}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, a.cert, a.cert, &a.key.PublicKey, a.key)
	must.OK(t, err)
	a.cert, err = x509.ParseCertificate(der)
	must.OK(t, err)
	must.OK(t, os.WriteFile(file, inPEM("CERTIFICATE", der), 0o644))
	return a
}

// Issue makes a certificate of a host, or by which a client of that name shows who it
// is. Until may be over.
func (a *Authority) Issue(t testing.TB, name string, until time.Time) tls.Certificate {
	t.Helper()
	of := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: until,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if ip := net.ParseIP(name); ip != nil {
		of.IPAddresses = []net.IP{ip}
	} else {
		of.DNSNames = []string{name}
	}
	key := newKey(t)
	der, err := x509.CreateCertificate(rand.Reader, of, a.cert, &key.PublicKey, a.key)
	must.OK(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// Files are where a certificate and its key are, in PEM.
type Files struct{ Cert, Key string }

// In names files in a folder.
func In(folder string) Files {
	return Files{Cert: filepath.Join(folder, "cert.pem"), Key: filepath.Join(folder, "key.pem")}
}

// Write issues a certificate into files, which it replaces one after the other, the
// certificate first.
func (a *Authority) Write(t testing.TB, to Files, name string, until time.Time) {
	t.Helper()
	pair := a.Issue(t, name, until)
	replace(t, to.Cert, inPEM("CERTIFICATE", pair.Certificate[0]))
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	must.OK(t, err)
	replace(t, to.Key, inPEM("PRIVATE KEY", key))
}

func replace(t testing.TB, path string, text []byte) {
	t.Helper()
	must.OK(t, os.WriteFile(path+".new", text, 0o600))
	must.OK(t, os.Rename(path+".new", path))
}

func inPEM(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must.OK(t, err)
	return key
}
