// SPDX-License-Identifier: AGPL-3.0-or-later

package store

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
)

// A Request is one that a Proxy got.
type Request struct {
	N    int    // 1 for the first since the last Play
	Kind string // S3's name of what it asks for, such as PutObject
	Key  string // of the object, with its bucket: "" for requests about the bucket
}

func (r Request) String() string { return fmt.Sprintf("%d %s %s", r.N, r.Kind, r.Key) }

// A Proxy stands before a store until the test ends. The store sees the host that the
// client has signed.
type Proxy struct {
	URL string

	forward  *httputil.ReverseProxy
	mu       sync.Mutex
	choose   func(Request) *Fault
	requests []Request
}

// NewProxy starts one in front of the store at a URL.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	to, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 100}
	p := &Proxy{forward: &httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			r.Out.Host = r.In.Host
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			answerError(w, http.StatusBadGateway, "TheStoreOfTheTestIsGone")
		},
	}}
	s := httptest.NewServer(p)
	p.URL = s.URL
	t.Cleanup(func() {
		s.CloseClientConnections() // of requests that a fault keeps open
		s.Close()
		transport.CloseIdleConnections()
	})
	return p
}

// Play has choose say from now on what becomes of each request; it returns nil for those
// that just pass, and is called by one request at a time. A nil choose lets all pass.
// Requests are counted anew.
func (p *Proxy) Play(choose func(Request) *Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.choose, p.requests = choose, nil
}

// At plays one fault at the n-th request from now.
func (p *Proxy) At(n int, f *Fault) {
	p.Play(func(r Request) *Fault {
		if r.N == n {
			return f
		}
		return nil
	})
}

// Down has all requests fail from now on as those to a store that nobody reaches.
func (p *Proxy) Down() { p.Play(func(Request) *Fault { return LostBefore }) }

// Requests are those that came since the last Play.
func (p *Proxy) Requests() []Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]Request(nil), p.requests...)
}

// Counts are they by kind.
func (p *Proxy) Counts() map[string]int {
	counts := map[string]int{}
	for _, r := range p.Requests() {
		counts[r.Kind]++
	}
	return counts
}

func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if f := p.meet(r); f != nil {
		f.do(w, r, func() *http.Response {
			answer := httptest.NewRecorder()
			p.forward.ServeHTTP(answer, r)
			return answer.Result()
		})
		return
	}
	p.forward.ServeHTTP(w, r)
}

// meet notes a request and tells its fault.
func (p *Proxy) meet(r *http.Request) *Fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	met := Request{N: len(p.requests) + 1, Kind: kindOf(r), Key: strings.TrimPrefix(r.URL.Path, "/")}
	p.requests = append(p.requests, met)
	if p.choose == nil {
		return nil
	}
	return p.choose(met)
}

// kindOf is S3's name of what a request asks for.
func kindOf(r *http.Request) string {
	query := r.URL.Query()
	kind := strings.ToUpper(r.Method[:1]) + strings.ToLower(r.Method[1:])
	switch {
	case query.Has("uploads") && r.Method == http.MethodGet:
		return "ListMultipartUploads"
	case query.Has("uploads"):
		return "CreateMultipartUpload"
	case query.Has("partNumber"):
		return "UploadPart"
	case query.Has("uploadId") && r.Method == http.MethodDelete:
		return "AbortMultipartUpload"
	case query.Has("uploadId"):
		return "CompleteMultipartUpload"
	case query.Has("list-type"):
		return "ListObjectsV2"
	case query.Has("delete"):
		return "DeleteObjects"
	case strings.Count(strings.Trim(r.URL.Path, "/"), "/") == 0:
		return kind + "Bucket"
	}
	return kind + "Object"
}

// A Fault is what becomes of a request instead of its answer.
type Fault struct {
	Name string
	do   func(w http.ResponseWriter, r *http.Request, forward func() *http.Response)
}

func (f *Fault) String() string { return f.Name }

// Named is the same fault by another name.
func (f *Fault) Named(name string) *Fault { return &Fault{name, f.do} }

// Faults of a store and of the way to it. Those with "after" have had their effect.
var (
	InternalError = answering(http.StatusInternalServerError, "InternalError")
	Unavailable   = answering(http.StatusServiceUnavailable, "ServiceUnavailable")
	SlowDown      = answering(http.StatusServiceUnavailable, "SlowDown")
	Conflict      = answering(http.StatusConflict, "ConditionalRequestConflict")
	Unmet         = answering(http.StatusPreconditionFailed, "PreconditionFailed")
	Denied        = answering(http.StatusForbidden, "AccessDenied")
	Skewed        = answering(http.StatusForbidden, "RequestTimeTooSkewed")
	UnknownUser   = answering(http.StatusNotFound, "XAdminUserNotFound") // as versitygw says

	FailedAfter = &Fault{"500 after", func(w http.ResponseWriter, _ *http.Request, forward func() *http.Response) {
		forward()
		answerError(w, http.StatusInternalServerError, "InternalError")
	}}
	LostBefore = &Fault{"lost before", func(w http.ResponseWriter, _ *http.Request, _ func() *http.Response) {
		hangUp(w, nil)
	}}
	LostAfter = &Fault{"lost after", func(w http.ResponseWriter, _ *http.Request, forward func() *http.Response) {
		forward()
		hangUp(w, nil)
	}}
	ResetAfter = &Fault{"reset after", func(w http.ResponseWriter, _ *http.Request, forward func() *http.Response) {
		forward()
		hangUp(w, nil, func(conn *net.TCPConn) { _ = conn.SetLinger(0) }) // without it, it is LostAfter
	}}
	Torn = &Fault{"torn answer after", func(w http.ResponseWriter, r *http.Request, forward func() *http.Response) {
		var whole bytes.Buffer
		if err := withLength(forward(), r).Write(&whole); err != nil {
			panic(err)
		}
		hangUp(w, whole.Bytes()[:whole.Len()-whole.Len()/3])
	}}
	Emptied = &Fault{"empty answer after", func(w http.ResponseWriter, _ *http.Request, forward func() *http.Response) {
		w.WriteHeader(forward().StatusCode)
	}}
	// HangsAfter answers nothing until the client goes away.
	HangsAfter = &Fault{"hangs after", func(w http.ResponseWriter, r *http.Request, forward func() *http.Response) {
		forward()
		<-r.Context().Done()
		hangUp(w, nil)
	}}
)

// Passing are the faults that a repetition of the request makes good.
var Passing = []*Fault{InternalError, Unavailable, SlowDown, Conflict, FailedAfter, LostBefore, LostAfter, ResetAfter, Torn}

// answering has no effect, and answers with an error.
func answering(status int, code string) *Fault {
	return &Fault{fmt.Sprint(status, " ", code), func(w http.ResponseWriter, _ *http.Request, _ func() *http.Response) {
		answerError(w, status, code)
	}}
}

// Before calls call, and then hangs up without an effect: call may kill the client.
func Before(call func()) *Fault {
	return &Fault{"before", func(w http.ResponseWriter, _ *http.Request, _ func() *http.Response) {
		call()
		hangUp(w, nil)
	}}
}

// After calls call after the effect, and hangs up.
func After(call func()) *Fault {
	return &Fault{"after", func(w http.ResponseWriter, _ *http.Request, forward func() *http.Response) {
		forward()
		call()
		hangUp(w, nil)
	}}
}

// withLength is the answer to r that says how long it is, so that who reads a part of it
// knows.
func withLength(answer *http.Response, r *http.Request) *http.Response {
	answer.Request = r
	if answer.ContentLength < 0 && r.Method != http.MethodHead {
		body, err := io.ReadAll(answer.Body)
		if err != nil {
			panic(err)
		}
		answer.Body, answer.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	}
	return answer
}

// hangUp writes what is left of an answer to the client's connection, and ends that.
func hangUp(w http.ResponseWriter, left []byte, how ...func(*net.TCPConn)) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // the client is gone
	}
	if tcp, is := conn.(*net.TCPConn); is {
		for _, set := range how {
			set(tcp)
		}
	}
	_, _ = conn.Write(left) // the client may have gone
	_ = conn.Close()
}
