// SPDX-License-Identifier: AGPL-3.0-or-later

package client

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"syscall"
	"time"
)

// serverHint is the next step when a server does not answer.
const serverHint = "is the server running, and is the address right?"

// networkHint says what a person can do about an error without an answer, and
// whether it stays so until somebody has done it: waiting does not help then.
func networkHint(err error) (text string, lasting bool) {
	var certificate *certificateError
	var record tls.RecordHeaderError
	var dns *net.DNSError
	var op *net.OpError
	switch {
	case errors.Is(err, errWantsHTTPS):
		return "use the --address with https://", true
	case errors.As(err, &certificate):
		return certificate.hint, true
	case errors.Is(err, http.ErrSchemeMismatch), errors.As(err, &record):
		return "nothing there speaks HTTPS: is it an http:// address?", true
	case errors.As(err, &op) && op.Net == "unix" && errors.Is(err, fs.ErrPermission):
		return "the socket is for its owner and its group: have this user put into the group, or see who may reach its folder", false
	case errors.As(err, &dns) && dns.IsNotFound:
		return "is the address right? this machine finds no host of that name", false
	}
	return serverHint, false
}

// errWantsHTTPS says that a server of an http:// address takes HTTPS only.
var errWantsHTTPS = errors.New("the server speaks https, and was asked with http")

// explainCut finds out why a connection was cut without an answer, if the server has
// never answered: it may want HTTPS, or refuse the client certificate. Servers say so
// and close at once, so that what they say is often lost. No request is sent over the
// connection that it tries.
func (c *Client) explainCut(ctx context.Context, err error) error {
	if !isCut(err) || c.transport.reached.Load() || !c.direct() {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if c.base.Scheme == "https" {
		return c.checkCertificates(ctx, err)
	}
	d := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}} // #nosec G402 -- only whether it speaks TLS matters
	conn, failed := d.DialContext(ctx, "tcp", net.JoinHostPort(c.base.Hostname(), cmp.Or(c.base.Port(), "80")))
	if failed != nil {
		return err
	}
	_ = conn.Close() // it was only tried
	return fmt.Errorf("%w (%w)", errWantsHTTPS, err)
}

// isCut tells whether a connection was cut.
func isCut(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// direct tells whether requests go to the server's port without a proxy.
func (c *Client) direct() bool { return c.at.socket == "" && c.transport.via == nil }

// checkCertificates is err, or what the server says of certificates: since TLS 1.3 it
// does so when it has read that of the client, which takes the handshake for done.
func (c *Client) checkCertificates(ctx context.Context, err error) error {
	d := tls.Dialer{Config: c.transport.secure.config()}
	conn, failed := d.DialContext(ctx, "tcp", net.JoinHostPort(c.base.Hostname(), cmp.Or(c.base.Port(), "443")))
	if failed == nil {
		defer conn.Close()
		// A server that has nothing to say waits for a request.
		if failed = conn.SetReadDeadline(time.Now().Add(2 * time.Second)); failed == nil {
			_, failed = conn.Read(make([]byte, 1))
		}
	}
	if said := c.transport.secure.explain(failed); errors.As(said, new(*certificateError)) {
		return said
	}
	return err
}

// tokenHint is the next step of a client that has no token.
func tokenHint() string {
	switch {
	case os.Getenv("GITHUB_ACTIONS") != "":
		return "give the job `permissions: {id-token: write}`, and it pushes with its ID token; or give a token in OSTREE_UPLOAD_TOKEN"
	case os.Getenv("GITLAB_CI") != "":
		return "give the job an ID token as OSTREE_UPLOAD_ID_TOKEN under id_tokens, or a token in OSTREE_UPLOAD_TOKEN"
	}
	return "give it in OSTREE_UPLOAD_TOKEN, or by --token-file; if there is none yet, `ostree-upload gentoken` on the server makes one"
}
