// SPDX-License-Identifier: AGPL-3.0-or-later

package client

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/lirios/ostree-upload/internal/hint"
)

// security is whom the client trusts, and how it shows who it is itself.
type security struct {
	caFile    string
	roots     *x509.CertPool // nil: those of the system
	cert, key string

	mu     sync.Mutex
	pair   *tls.Certificate // what cert and key held when they were last good; nil for none
	failed error            // of reading them since
}

func newSecurity(opt Options) (*security, error) {
	s := &security{caFile: opt.CAFile, cert: opt.Cert, key: cmp.Or(opt.Key, opt.Cert)}
	if opt.Key != "" && opt.Cert == "" {
		return nil, hint.Add(errors.New("there is a key of a client certificate, and no certificate"), "name it with --client-cert")
	}
	if err := s.readAuthorities(); err != nil {
		return nil, err
	}
	if s.cert == "" {
		return s, nil
	}
	if err := s.readPair(); err != nil {
		return nil, hint.Add(err, "name PEM files that belong together with --client-cert and --client-key")
	}
	return s, nil
}

func (s *security) readAuthorities() error {
	if s.caFile == "" {
		return nil
	}
	text, err := os.ReadFile(s.caFile)
	if err != nil {
		return fmt.Errorf("read the authorities to trust: %w", err)
	}
	s.roots = x509.NewCertPool()
	if !s.roots.AppendCertsFromPEM(text) {
		return hint.Add(fmt.Errorf("%s holds no certificate", s.caFile), "name a file in PEM form with --ca-file: it has lines BEGIN CERTIFICATE")
	}
	return nil
}

func (s *security) readPair() error {
	pair, err := tls.LoadX509KeyPair(s.cert, s.key)
	if err != nil {
		return fmt.Errorf("read the client certificate %s: %w", s.cert, err)
	}
	s.pair = &pair
	return nil
}

// config is what TLS connections begin with.
func (s *security) config() *tls.Config {
	c := &tls.Config{RootCAs: s.roots, MinVersion: tls.VersionTLS12}
	if s.cert != "" {
		c.GetClientCertificate = s.certificate
	}
	return c
}

// certificate gives the client certificate for a handshake. It is read each time: a
// push may last longer than a certificate. While its two files are being replaced the
// last good pair does.
func (s *security) certificate(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failed = s.readPair()
	return s.pair, nil
}

// A certificateError says what about certificates is wrong, and so stays until
// somebody has changed something.
type certificateError struct {
	err  error
	hint string
}

func (e *certificateError) Error() string { return e.err.Error() }
func (e *certificateError) Unwrap() error { return e.err }
func (e *certificateError) Hint() string  { return e.hint }

// explain makes a certificateError of an error that is one.
func (s *security) explain(err error) error {
	var unknown x509.UnknownAuthorityError
	var verify *tls.CertificateVerificationError
	var invalid x509.CertificateInvalidError
	var name x509.HostnameError
	switch {
	case err == nil || errors.As(err, new(*certificateError)):
		return err
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return &certificateError{err, "have the server's certificate renewed; or is the clock of this machine wrong?"}
	case errors.As(err, &name):
		return &certificateError{err, "name the host in the address as the certificate does"}
	case errors.As(err, &unknown) || errors.As(err, &verify):
		return &certificateError{err, s.trustHint()}
	}
	if said, ok := strings.CutPrefix(alertIn(err), "tls: "); ok {
		return s.refused(said, err)
	}
	return err
}

func (s *security) trustHint() string {
	if s.caFile != "" {
		return fmt.Sprintf("only the authorities in %s are trusted: add that of the server to it, or leave out --ca-file (OSTREE_UPLOAD_CA_FILE)", s.caFile)
	}
	return "if you trust it, name a file with the certificate of its authority by --ca-file, or in SSL_CERT_FILE"
}

// alertIn is the alert (RFC 8446, 6) by which the server ended a connection, as
// crypto/tls words it, or "". Its type is not exported.
func alertIn(err error) string {
	_, alert, _ := strings.Cut(err.Error(), "remote error: ")
	return alert
}

// refused explains an alert about the client certificate.
func (s *security) refused(alert string, err error) error {
	what := "the server refuses the client certificate " + s.cert
	switch alert {
	case "certificate required":
		what = "the server wants a client certificate"
	case "expired certificate", "bad certificate", "unknown certificate authority", "unknown certificate", "unsupported certificate", "revoked certificate", "access denied":
	case "handshake failure": // what older TLS says of a certificate that lacks, and of much else
		if s.cert != "" {
			return err
		}
		what = "the server refuses the connection, perhaps for want of a client certificate"
	default:
		return err
	}
	return &certificateError{fmt.Errorf("%s: %w", what, err), s.clientHint()}
}

// clientHint is the next step where a server wants a client certificate, or another one.
func (s *security) clientHint() string {
	if s.cert == "" {
		return "give the certificate and its key by --client-cert and --client-key (OSTREE_UPLOAD_CLIENT_CERT, OSTREE_UPLOAD_CLIENT_KEY)"
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	leaf := s.pair.Leaf
	if s.failed != nil {
		return fmt.Sprintf("an earlier one was shown, as the present one cannot be used: %v", s.failed)
	}
	if now := time.Now(); now.After(leaf.NotAfter) {
		return fmt.Sprintf("it ended on %s: have it renewed", leaf.NotAfter.Format(time.RFC3339))
	} else if now.Before(leaf.NotBefore) {
		return fmt.Sprintf("it begins on %s: or is the clock of this machine wrong?", leaf.NotBefore.Format(time.RFC3339))
	}
	return fmt.Sprintf("it is issued by %q: is that the authority that the server trusts for clients, and is it made for client authentication?", leaf.Issuer)
}
