// SPDX-License-Identifier: AGPL-3.0-or-later

package client

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"
	"time"
)

// serverHint is the next step when a server does not answer.
const serverHint = "is the server running, and is the address right?"

// networkHint says what a person can do about an error without an answer, and
// whether it stays so until somebody has done it: waiting does not help then.
func networkHint(err error) (text string, lasting bool) {
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	var certificate *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var dns *net.DNSError
	switch {
	case errors.Is(err, errWantsHTTPS):
		return "use the --address with https://", true
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "have the server's certificate renewed; or is the clock of this machine wrong?", true
	case errors.As(err, &name):
		return "name the host in the address as the certificate does", true
	case errors.As(err, &unknown), errors.As(err, &certificate):
		return "if you trust it, name a file with the certificate of its authority in SSL_CERT_FILE", true
	case errors.Is(err, http.ErrSchemeMismatch), errors.As(err, &record):
		return "nothing there speaks HTTPS: is it an http:// address?", true
	case errors.As(err, &dns) && dns.IsNotFound:
		return "is the address right? this machine finds no host of that name", false
	}
	return serverHint, false
}

// errWantsHTTPS says that a server of an http:// address takes HTTPS only.
var errWantsHTTPS = errors.New("the server speaks https, and was asked with http")

// checkScheme finds out whether a connection that was cut without an answer was to a
// server of HTTPS. Those of Go answer plain HTTP and close at once, so that the answer
// is often lost. No request is sent over the connection that it tries.
func (c *Client) checkScheme(ctx context.Context, err error) error {
	cut := errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
	if !cut || c.base.Scheme != "http" || c.transport.reached.Load() {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	d := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}} // only whether it speaks TLS matters
	conn, failed := d.DialContext(ctx, "tcp", net.JoinHostPort(c.base.Hostname(), cmp.Or(c.base.Port(), "80")))
	if failed != nil {
		return err
	}
	conn.Close()
	return fmt.Errorf("%w (%w)", errWantsHTTPS, err)
}

// tokenHint is the next step of a client that has no token.
const tokenHint = "give it in OSTREE_UPLOAD_TOKEN, or by --token-file; if there is none yet, `ostree-upload gentoken` on the server makes one"
