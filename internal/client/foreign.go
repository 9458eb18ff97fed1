// SPDX-License-Identifier: AGPL-3.0-or-later

package client

import (
	"cmp"
	"fmt"
	"net/http"
	"strings"

	"github.com/lirios/ostree-upload/internal/hint"
	"github.com/lirios/ostree-upload/internal/wire"
)

// Between here and the server there are proxies, load balancers, firewalls and
// login pages, and each of them answers in the server's place. This file is the one
// judgement of such answers.

// foreignKind is what an answer of this status means that is not our server's.
// What a restart, a configuration or a login elsewhere may change is waited out.
func foreignKind(status int) Kind {
	switch status {
	case http.StatusUnauthorized:
		return Refused
	case http.StatusInsufficientStorage:
		return NoSpace
	case http.StatusForbidden, // a firewall, perhaps of this request only
		http.StatusRequestTimeout, http.StatusMisdirectedRequest, http.StatusLocked,
		http.StatusTooEarly, http.StatusTooManyRequests:
		return Temporary
	case http.StatusNotImplemented, http.StatusHTTPVersionNotSupported:
		return Permanent
	}
	if status >= 500 {
		return Temporary
	}
	return Permanent
}

// explainForeign fills in e for an answer that is not our server's.
func (t *transport) explainForeign(e *answerError, req *http.Request, res *http.Response) {
	status, reached := res.StatusCode, t.reached.Load()
	p := bareProblem(status)
	e.problem = p
	p.Detail = fmt.Sprintf("%s answers %q to %s %s", t.answers(res), res.Status, req.Method, req.URL.Path)
	switch {
	case status < 400:
		e.passing = t.explainRedirect(p, req, res)
	case status == http.StatusNotFound || status == http.StatusGone:
		// A load balancer without a server for the moment, if there was one before.
		e.passing = reached
		p.WithHint("is the address right, with the path below which a proxy puts the server?")
	case strings.Contains(e.text, "HTTPS server") || strings.Contains(e.text, "HTTPS port"):
		p.Detail = fmt.Sprintf("%s speaks https, and was asked with http", t.base.Host)
		p.WithHint("use --address https://%s%s", t.base.Host, t.base.Path)
	case status == http.StatusBadRequest && strings.Contains(e.text, "SSL certificate"): // so says nginx
		p.Detail += ", for want of a good client certificate"
		p.HintIs = t.secure.clientHint()
	case status == http.StatusProxyAuthRequired:
		p.HintIs = t.via.loginHint()
	case status == http.StatusUnauthorized:
		p.HintIs = t.loginHint(res.Header)
	case status == http.StatusRequestEntityTooLarge:
		p.WithHint("have it take requests of 2 MiB, in nginx by client_max_body_size")
	case status == http.StatusNetworkAuthenticationRequired:
		p.WithHint("this network wants a login first: open any page in a browser of this machine")
	case status == http.StatusForbidden:
		p.WithHint("have it let %s through to %s", req.Method, t.base)
	case status == http.StatusMethodNotAllowed || status == http.StatusNotImplemented:
		p.Detail += ": it does not let this method through"
		p.WithHint("have it let GET, HEAD, POST, PATCH and DELETE through to %s", t.base)
	case status >= 500 && t.via != nil:
		p.HintIs = t.via.passHint()
	case status >= 500:
		p.HintIs = serverHint
	default:
		p.WithHint("if it stays so, ask whoever runs what is in front of %s", t.base.Host)
	}
}

func bareProblem(status int) *wire.Problem {
	return &wire.Problem{Type: "about:blank", Title: http.StatusText(status), Status: status}
}

// loginHint is the next step where something in front of the server wants a login.
func (t *transport) loginHint(h http.Header) string {
	for _, wants := range h.Values("WWW-Authenticate") {
		switch scheme, _, _ := strings.Cut(wants, " "); {
		case strings.EqualFold(scheme, "Basic") && t.login != nil:
			return "it does not take the user and the password in the address (--address or OSTREE_UPLOAD_ADDRESS)"
		case strings.EqualFold(scheme, "Basic"):
			return fmt.Sprintf("it wants a login of its own, besides the token: give it in the address, as in %s://user:password@%s%s",
				t.base.Scheme, t.base.Host, t.base.Path)
		}
	}
	if t.via != nil && t.base.Scheme == "http" { // tinyproxy says so of a wrong login
		return t.via.loginHint()
	}
	return fmt.Sprintf("have it let requests through to %s without a login of its own, or with user and password (Basic) in the address", t.base)
}

// answers names who gave an answer that is not our server's, as far as it says so.
func (t *transport) answers(res *http.Response) string {
	name := cmp.Or(res.Header.Get("Via"), res.Header.Get("Server"))
	switch {
	case res.StatusCode == http.StatusProxyAuthRequired && t.via != nil:
		return t.via.String()
	case name != "":
		return fmt.Sprintf("a proxy (%.80s) in front of %s", name, t.base.Host)
	case t.reached.Load() || onlyProxies(res.StatusCode):
		return "a proxy in front of " + t.base.Host
	}
	return "a proxy or another server at " + t.base.Host
}

// onlyProxies tells whether a server that is no proxy has no use for a status.
func onlyProxies(status int) bool {
	switch status {
	case http.StatusProxyAuthRequired, http.StatusBadGateway, http.StatusServiceUnavailable,
		http.StatusGatewayTimeout, http.StatusNetworkAuthenticationRequired:
		return true
	}
	return false
}

// explainRedirect explains an answer that points elsewhere. It is not followed:
// the token was given for this address. It is passing if it leads to a login page,
// or if the server has answered before: then the address is right.
func (t *transport) explainRedirect(p *wire.Problem, req *http.Request, res *http.Response) (passing bool) {
	p.Detail = fmt.Sprintf("%s redirects to another address (%s), and the token is not sent there", t.base, res.Status)
	p.HintIs = pageHint
	to, err := res.Location()
	if err != nil {
		return true
	}
	to.RawQuery, to.Fragment = "", ""
	if t.base.Scheme == "https" && isPlain(to) {
		p.Detail = fmt.Sprintf("%s redirects to plain HTTP (%s, %s), where whoever is on the way could read the token", t.base, to.Redacted(), res.Status)
		p.WithHint("nothing was sent there; ask whoever runs %s for its https:// address", t.base.Host)
		return t.reached.Load()
	}
	path, whole := strings.CutSuffix(to.Path, strings.TrimPrefix(req.URL.Path, t.base.Path))
	if whole && !t.reached.Load() {
		to.Path = path
		p.WithHint("if you trust it, use --address %s", to.Redacted())
		return false
	}
	p.Detail = fmt.Sprintf("%s redirects %s %s to %s (%s)", t.answers(res), req.Method, req.URL.Path, to.Redacted(), res.Status)
	return true
}

const pageHint = "see that the address is right, and that no proxy or login page is in the way"

// pageError is the error of a success that is a page for people: our server has none.
func (t *transport) pageError(req *http.Request, res *http.Response) error {
	page := mediaType(res.Header)
	if page != "text/html" && page != "application/xhtml+xml" {
		return nil
	}
	err := fmt.Errorf("%s answers %s %s with %s: %w", t.answers(res), req.Method, req.URL.Path, page, ErrBadAnswer)
	return hint.Add(err, pageHint)
}
