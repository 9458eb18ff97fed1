// SPDX-License-Identifier: AGPL-3.0-or-later

package client

import (
	"context"
	"io"
	"net/http"
	"sync/atomic"
)

// A binding binds go-tus's requests to the push's context, which go-tus cannot
// be given, keeps the header of the last HEAD, and tells how much of the last
// PATCH went out.
type binding struct {
	ctx  context.Context
	next http.RoundTripper
	head http.Header
	out  *atomic.Int64 // a new one for each PATCH
}

func (b *binding) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.WithContext(b.ctx)
	if req.Method == http.MethodPatch && req.Body != nil {
		b.count(req)
	}
	res, err := b.next.RoundTrip(req)
	if err == nil && req.Method == http.MethodHead {
		b.head = res.Header
	}
	return res, err
}

// count has out tell how much of the body was read, also when it is sent again
// below.
func (b *binding) count(req *http.Request) {
	out, again := b.out, req.GetBody
	req.Body = &countedBody{ReadCloser: req.Body, most: out}
	if again == nil {
		return
	}
	req.GetBody = func() (io.ReadCloser, error) {
		body, err := again()
		return &countedBody{ReadCloser: body, most: out}, err
	}
}

// A countedBody keeps most at the most that any of the bodies that share it has
// given. They are read one after the other.
type countedBody struct {
	io.ReadCloser
	n    int64
	most *atomic.Int64
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.n += int64(n)
	b.most.Store(max(b.most.Load(), b.n))
	return n, err
}

// oneURL is a go-tus store of one upload, whose URL follows from its name.
type oneURL string

func (s oneURL) Get(string) (string, bool) { return string(s), true }
func (oneURL) Set(string, string)          {}
func (oneURL) Delete(string)               {}
func (oneURL) Close()                      {}
