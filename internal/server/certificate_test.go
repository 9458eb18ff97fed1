// SPDX-License-Identifier: AGPL-3.0-or-later

package server

import (
	"crypto/x509"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/internal/config"
)

// pair makes a certificate for a name, and its key.
func pair(t *testing.T, files config.TLS, name string) {
	t.Helper()
	out, err := exec.Command("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
		"-subj", "/CN="+name, "-keyout", files.Key, "-out", files.Cert).CombinedOutput()
	if err != nil {
		t.Fatalf("openssl: %v\n%s", err, out)
	}
}

// A renewed pair is used from the next handshake on, also if its two files come one
// after the other. One that cannot be used is logged, once, and the last stays.
func TestCertificateIsReadAgain(t *testing.T) {
	dir := t.TempDir()
	at := func(salt string) config.TLS {
		return config.TLS{Cert: filepath.Join(dir, salt+"cert.pem"), Key: filepath.Join(dir, salt+"key.pem")}
	}
	move := func(from, to string) {
		t.Helper()
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	var log strings.Builder
	pair(t, at(""), "one")
	c, err := loadCertificate(at(""), slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	name := func() string {
		t.Helper()
		got, err := c.get(nil)
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := x509.ParseCertificate(got.Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		return leaf.Subject.CommonName
	}
	pair(t, at("new-"), "two")
	move(at("new-").Cert, at("").Cert)
	if got := name() + name(); got != "oneone" || strings.Count(log.String(), "is not used") != 1 {
		t.Errorf("with half of a pair: %s, log:\n%s", got, log.String())
	}
	move(at("new-").Key, at("").Key)
	if got := name(); got != "two" {
		t.Errorf("with the whole pair: %s", got)
	}
	if err := os.Remove(at("").Key); err != nil {
		t.Fatal(err)
	}
	c.reload()
	if got := name(); got != "two" {
		t.Errorf("without its key: %s", got)
	}
	if _, err := loadCertificate(at("none-"), slog.Default()); err == nil {
		t.Error("a pair that is not there was loaded")
	}
}
