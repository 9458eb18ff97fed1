// SPDX-License-Identifier: AGPL-3.0-or-later

package console

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/lirios/ostree-upload/internal/receive"
	"github.com/lirios/ostree-upload/internal/wire"
)

// request is a request for a page, with who asks.
type request struct {
	*http.Request
	console    *Console
	repository string   // that it is about, "" if there is one only, or none is named
	root       string   // the way from its path to that of the repository: "", "../" and so on
	signIn     *signIn  // nil without one
	hash       string   // of the token
	known      *endedOf // of a stream; nil at first
	whoWas     whoIs
	whoAt      time.Time // when that was found out
}

type requestKey struct{}

func with(ctx context.Context, r *request) context.Context {
	return context.WithValue(ctx, requestKey{}, r)
}

// of is the request that serve has made of r.
func of(r *http.Request) *request {
	q, _ := r.Context().Value(requestKey{}).(*request)
	q.Request = r
	return q
}

// get asks the API for a document.
func (r *request) get(into any, path string, query url.Values) error {
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	return r.ask(http.MethodGet, path, nil, into)
}

// ask sends the API of this process a request for who has signed in. The error is a
// *wire.Problem if the API refuses it.
func (r *request) ask(method, path string, body, into any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	if body == nil {
		text = nil
	}
	if r.repository != "" {
		path = "/" + r.repository + path
	}
	q, err := http.NewRequestWithContext(receive.SignedIn(r.Context(), r.hash), method, path, bytes.NewReader(text))
	if err != nil {
		return err
	}
	q.RemoteAddr, q.Host, q.TLS = r.RemoteAddr, r.Host, r.TLS
	for _, name := range []string{"X-Forwarded-For", "Forwarded", wire.RequestHeader} {
		if values := r.Header.Values(name); values != nil {
			q.Header[http.CanonicalHeaderKey(name)] = values
		}
	}
	a := &answer{header: http.Header{}}
	r.console.cfg.API.ServeHTTP(a, q)
	return a.read(into)
}

// answer is one of the API, kept in memory.
type answer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *answer) Header() http.Header { return a.header }

// SetReadDeadline and SetWriteDeadline are for http.ResponseController: there is no
// connection that could be slow.
func (a *answer) SetReadDeadline(time.Time) error { return nil }

func (a *answer) SetWriteDeadline(time.Time) error { return nil }

func (a *answer) WriteHeader(status int) {
	if a.status == 0 && status >= 200 {
		a.status = status
	}
}

func (a *answer) Write(b []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(b)
}

// read reads a document, or the problem that came in its place.
func (a *answer) read(into any) error {
	if a.status >= 400 {
		p := new(wire.Problem)
		if err := json.Unmarshal(a.body.Bytes(), p); err != nil {
			return fmt.Errorf("the API answers with status %d, and no problem: %w", a.status, err)
		}
		return p
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(a.body.Bytes(), into); err != nil {
		return fmt.Errorf("read an answer of the API: %w", err)
	}
	return nil
}

// refused tells whether the API refused what was asked for with a status.
func refused(err error, status int) bool {
	var p *wire.Problem
	return errors.As(err, &p) && p.Status == status
}
