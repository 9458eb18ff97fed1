// SPDX-License-Identifier: AGPL-3.0-or-later

package client

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/lirios/ostree-upload/internal/fault"
)

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
	if !expect || Status(err) != http.StatusExpectationFailed || req.GetBody == nil {
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
		return nil, fmt.Errorf("request not sent to %s: the server is at %s", req.URL.Redacted(), t.base.Host)
	}
	ctx, watch := watchStall(req.Context())
	req = req.Clone(ctx)
	t.setHeaders(req)
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

// setHeaders adds what every request carries.
func (t *transport) setHeaders(req *http.Request) {
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
