// SPDX-License-Identifier: AGPL-3.0-or-later

package client

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
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

// tokenHint is the next step of a client that has no token.
const tokenHint = "give it in OSTREE_UPLOAD_TOKEN, or by --token-file; if there is none yet, `ostree-upload gentoken` on the server makes one"
