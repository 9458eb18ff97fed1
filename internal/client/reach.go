// SPDX-License-Identifier: AGPL-3.0-or-later

package client

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/lirios/ostree-upload/internal/wire"
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

// explainForeign adds a next step to an answer that no ostree-upload server gives.
func explainForeign(p *wire.Problem, base *url.URL, body string) {
	switch {
	case p.Status == http.StatusBadRequest && isHTTPSOnly(body):
		p.Detail = fmt.Sprintf("%s wants HTTPS", base.Host)
		secure := *base
		secure.Scheme = "https"
		p.HintIs = "use --address " + secure.Redacted()
	case p.Status == http.StatusNotFound:
		p.Detail = fmt.Sprintf("there is no ostree-upload server at %s: %s", base.Redacted(), p.Detail)
		p.HintIs = "see that the address is right, and its path if a proxy puts the server below one"
	case p.Status >= 500:
		p.HintIs = serverHint
	}
}

// isHTTPSOnly recognizes how servers of Go, nginx and Apache refuse plain HTTP.
func isHTTPSOnly(body string) bool {
	for _, words := range []string{
		"HTTP request to an HTTPS server", "plain HTTP request was sent to HTTPS port", "speaking plain HTTP to an SSL-enabled server port",
	} {
		if strings.Contains(body, words) {
			return true
		}
	}
	return false
}

// tokenHint is the next step of a client that has no token.
const tokenHint = "give it in OSTREE_UPLOAD_TOKEN, or by --token-file; if there is none yet, `ostree-upload gentoken` on the server makes one"
