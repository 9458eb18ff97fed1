// SPDX-License-Identifier: AGPL-3.0-or-later

package push

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/lirios/ostree-upload/internal/fault"
	"github.com/lirios/ostree-upload/internal/wire"
)

// maxProblem bounds what is read of an answer that is an error.
const maxProblem = 1 << 20

// A transport sends requests to the user's own origin and to no other, with the
// token. An answer that is not a success comes back as an error, so that go-tus
// and the API's calls see the same errors, with all that the answer said.
type transport struct {
	base  *url.URL
	token string
	http  *http.Transport

	noExpect atomic.Bool // something on the way refuses Expect
}

func newTransport(base *url.URL, token string) *transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true) // HTTP/2 sends slower: its windows are smaller than TCP's
	return &transport{
		base: base, token: token,
		http: &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           dial,
			Protocols:             protocols,
			TLSHandshakeTimeout:   15 * time.Second,
			ExpectContinueTimeout: time.Second,
			IdleConnTimeout:       time.Minute,
			MaxIdleConnsPerHost:   64,
			WriteBufferSize:       64 << 10,
		},
	}
}

// CloseIdleConnections lets http.Client close them.
func (t *transport) CloseIdleConnections() { t.http.CloseIdleConnections() }

// RoundTrip sends req. The errors are *answerError and those of the network.
func (t *transport) RoundTrip(req *http.Request) (res *http.Response, err error) {
	err = fault.Point(req.Method, func() error {
		res, err = t.send(req)
		return err
	})
	return res, err
}

// send sends req, again without Expect where a proxy does not know that: it
// answers 417 (RFC 9110, 10.1.1), and no later request has it.
func (t *transport) send(req *http.Request) (*http.Response, error) {
	expect := req.Method == http.MethodPatch && req.Body != nil && !t.noExpect.Load()
	res, err := t.sendOnce(req, expect)
	if !expect || status(err) != http.StatusExpectationFailed || req.GetBody == nil {
		return res, err
	}
	t.noExpect.Store(true)
	again := req.Clone(req.Context())
	if again.Body, err = req.GetBody(); err != nil {
		return nil, err
	}
	return t.sendOnce(again, false)
}

// sendOnce sends req, and its body only once that is asked for if expect is set.
func (t *transport) sendOnce(req *http.Request, expect bool) (*http.Response, error) {
	if req.URL.Scheme != t.base.Scheme || req.URL.Host != t.base.Host {
		closeBody(req)
		return nil, fmt.Errorf("%s is not at %s: not sent", req.URL.Redacted(), t.base.Host)
	}
	ctx, watch := watchStall(req.Context())
	req = req.Clone(ctx)
	t.dress(req)
	if expect {
		req.Header.Set("Expect", "100-continue") // a refusal then costs no body
	}
	res, err := t.http.RoundTrip(req)
	if err != nil {
		if err = watch.end(err); errors.Is(err, errStalled) {
			t.CloseIdleConnections() // as dead as this one, most likely
		}
		return nil, err
	}
	if res.StatusCode >= 300 {
		defer res.Body.Close()
		answer := t.answer(req, res)
		watch.end(nil)
		return nil, answer
	}
	res.Body = &watchedBody{res.Body, watch}
	return res, nil
}

// dress adds what every request carries.
func (t *transport) dress(req *http.Request) {
	if t.token != "" {
		req.Header.Set("Authorization", "Bearer "+t.token)
	}
	req.Header.Set("User-Agent", "ostree-upload")
}

func closeBody(req *http.Request) {
	if req.Body != nil {
		req.Body.Close()
	}
}

// An answerError is an answer that is not a success.
type answerError struct {
	problem *wire.Problem
	after   time.Duration // of Retry-After, or 0
	text    string        // the first of the body, in which tus names its errors
}

func (e *answerError) Error() string { return e.problem.Error() }

// Unwrap returns the *wire.Problem.
func (e *answerError) Unwrap() error { return e.problem }

// interrupted reports whether the server saw this upload's request break off:
// tus servers call that the client's fault (400).
func (e *answerError) interrupted() bool {
	for _, word := range []string{
		"ERR_UPLOAD_INTERRUPTED", "ERR_UNEXPECTED_EOF", "ERR_UPLOAD_STOPPED", "ERR_READ_TIMEOUT",
		"upload has been interrupted", "unexpected EOF", "expected to receive more bytes",
	} {
		if strings.Contains(e.text, word) {
			return true
		}
	}
	return false
}

// answer makes the error of an answer that is not a success.
func (t *transport) answer(req *http.Request, res *http.Response) error {
	b, _ := io.ReadAll(io.LimitReader(res.Body, maxProblem)) // what came of it is enough
	e := &answerError{after: retryAfter(res.Header, time.Now()), text: string(b)}
	kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
	if kind == wire.ProblemType {
		var p wire.Problem
		if err := json.Unmarshal(b, &p); err == nil {
			p.Status = res.StatusCode
			e.problem = &p
			return e
		}
	}
	e.problem = &wire.Problem{
		Type: "about:blank", Title: http.StatusText(res.StatusCode), Status: res.StatusCode,
		Detail: fmt.Sprintf("%s answers %q to %s %s", t.base.Host, res.Status, req.Method, req.URL.Path),
	}
	if res.StatusCode < 400 {
		t.redirected(e.problem, req, res)
	}
	return e
}

// redirected explains an answer that points elsewhere. It is not followed: the
// token was given for this address.
func (t *transport) redirected(p *wire.Problem, req *http.Request, res *http.Response) {
	p.Detail = fmt.Sprintf("%s redirects elsewhere (%s) and the token is for this address only", t.base, res.Status)
	to, err := res.Location()
	if err != nil {
		return
	}
	to.RawQuery, to.Fragment = "", ""
	path, whole := strings.CutSuffix(to.Path, strings.TrimPrefix(req.URL.Path, t.base.Path))
	if whole {
		to.Path = path
	}
	p.WithHint("if you trust it, use --address %s", to.Redacted())
}

// retryAfter reads the header of that name: seconds, or a date.
func retryAfter(h http.Header, now time.Time) time.Duration {
	v := h.Get("Retry-After")
	if s, err := strconv.ParseUint(v, 10, 31); err == nil {
		return time.Duration(s) * time.Second
	}
	if at, err := http.ParseTime(v); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}
