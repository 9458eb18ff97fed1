// SPDX-License-Identifier: AGPL-3.0-or-later

package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/lirios/ostree-upload/internal/fault"
	"github.com/lirios/ostree-upload/internal/wire"
)

// A transport sends requests to the user's own origin and to no other, with the
// token. An answer that is not a success comes back as an error, so that go-tus
// and the API's calls see the same errors, with all that the answer said.
type transport struct {
	base     *url.URL
	throttle *throttle
	via      *via          // on the way to the server, or nil
	login    *url.Userinfo // for a proxy in front of the server, or nil
	token    bearer
	id       string // that every request has (wire.RequestHeader)
	secure   *security
	http     *http.Transport

	reached  atomic.Bool // the server has answered once
	noExpect atomic.Bool // something on the way refuses Expect, or swallows what it asks for
	posting  atomic.Bool // something on the way lets no PATCH and DELETE through, but POST
}

func newTransport(a address, secure *security, throttle *throttle) *transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true) // HTTP/2 sends slower: its windows are smaller than TCP's
	t := &transport{
		base: a.url, via: a.via, throttle: throttle, login: a.login, id: wire.NewRequestID(), secure: secure,
		http: &http.Transport{
			DialContext:           throttle.dial,
			TLSClientConfig:       secure.config(),
			Protocols:             protocols,
			TLSHandshakeTimeout:   15 * time.Second,
			ExpectContinueTimeout: time.Second,
			IdleConnTimeout:       time.Minute,
			MaxIdleConnsPerHost:   64,
			WriteBufferSize:       throttle.buffer(),
		},
	}
	a.via.lead(t.http)
	if a.socket != "" {
		t.http.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) { return throttle.dial(ctx, "unix", a.socket) }
	}
	return t
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

// send sends req, and once more with the token that is in the place of one that is
// refused.
func (t *transport) send(req *http.Request) (*http.Response, error) {
	token := t.token.now(req.Context())
	res, err := t.sendPosting(req, token)
	var answer *answerError
	if !errors.As(err, &answer) || answer.foreign() || answer.problem.Status != http.StatusUnauthorized {
		return res, err
	}
	renewed, soon, failed := t.token.renew(req.Context(), token)
	if failed != nil {
		answer.problem.Detail += fmt.Sprintf("; reading the token again failed: %v", failed)
	}
	if answer.passing = soon; !renewed {
		return nil, err
	}
	again, repeatable := repeated(req)
	if !repeatable || methodOf(req) == http.MethodPatch && answer.begun {
		answer.passing, answer.renewed = true, true // the next try has the new token, and asks for the offset
		return nil, err
	}
	return t.sendPosting(again, t.token.now(req.Context()))
}

// sendExpecting sends req, again without Expect where a proxy does not know that:
// it answers 417 (RFC 9110, 10.1.1), and no later request has it.
func (t *transport) sendExpecting(req *http.Request, token string) (*http.Response, error) {
	expect := methodOf(req) == http.MethodPatch && req.Body != nil && !t.noExpect.Load()
	res, err := t.sendOnce(req, token, expect)
	if !expect || Status(err) != http.StatusExpectationFailed {
		return res, err
	}
	again, repeatable := repeated(req)
	if !repeatable {
		return nil, err
	}
	t.noExpect.Store(true)
	return t.sendOnce(again, token, false)
}

// repeated is req to be sent again, if its body can be.
func repeated(req *http.Request) (again *http.Request, ok bool) {
	again = req.Clone(req.Context())
	if req.Body == nil || req.Body == http.NoBody {
		return again, true
	}
	if req.GetBody == nil {
		return nil, false
	}
	var err error
	again.Body, err = req.GetBody()
	return again, err == nil
}

// sendOnce sends req, and its body only once that is asked for if expect is set.
func (t *transport) sendOnce(req *http.Request, token string, expect bool) (*http.Response, error) {
	if req.URL.Scheme != t.base.Scheme || req.URL.Host != t.base.Host {
		closeBody(req)
		return nil, fmt.Errorf("request not sent to %s: the server is at %s", req.URL.Redacted(), t.base.Host)
	}
	bulk := methodOf(req) == http.MethodPatch && req.Body != nil
	ctx, watch := watchStall(req.Context(), bulk)
	asked := new(atomic.Bool)
	if expect {
		ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{Got100Continue: func() { asked.Store(true) }})
	}
	req = req.Clone(ctx)
	if bulk && t.throttle != nil {
		req.Body = t.throttle.slowed(req.Body)
	}
	t.setHeaders(req, token)
	req.Header.Set(wire.RequestHeader, t.id)
	if expect {
		req.Header.Set("Expect", "100-continue") // a refusal then costs no body
	}
	res, err := t.http.RoundTrip(req)
	if err != nil {
		if err = watch.end(err); errors.Is(err, errStalled) {
			t.CloseIdleConnections() // as dead as this one, most likely
		}
		if expect && !asked.Load() && isCut(err) {
			err = headCutError{err}
		}
		return nil, t.secure.explain(err)
	}
	if err := t.judge(req, res); err != nil {
		_ = res.Body.Close() // err says more
		_ = watch.end(nil)
		if answer := (*answerError)(nil); errors.As(err, &answer) {
			answer.begun = req.Body != nil && (!expect || asked.Load())
		}
		return nil, err
	}
	if expect && !asked.Load() {
		t.noExpect.Store(true) // the body was held back for nothing
	}
	res.Body = &watchedBody{res.Body, watch}
	return res, nil
}

// judge is the error of an answer that is not a success of our server's.
func (t *transport) judge(req *http.Request, res *http.Response) error {
	if res.StatusCode >= 300 {
		return t.answer(req, res)
	}
	if err := t.pageError(req, res); err != nil {
		return err
	}
	t.reached.Store(true)
	t.token.taken()
	return nil
}

// setHeaders adds what every request carries. A proxy that wants a login has it in
// Authorization, and the token then has a header of its own.
func (t *transport) setHeaders(req *http.Request, token string) {
	if t.login != nil {
		password, _ := t.login.Password()
		req.SetBasicAuth(t.login.Username(), password)
	}
	switch {
	case token != "" && t.login != nil:
		req.Header.Set(wire.TokenHeader, token)
	case token != "":
		req.Header.Set("Authorization", "Bearer "+token)
	}
	req.Header.Set("User-Agent", "ostree-upload")
}

func closeBody(req *http.Request) {
	if req.Body != nil {
		_ = req.Body.Close() // it was only read
	}
}
