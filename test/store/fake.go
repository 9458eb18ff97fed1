// SPDX-License-Identifier: AGPL-3.0-or-later

package store

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/lirios/ostree-upload/test/must"
)

// FakeBucket is the one that a fake has from its start.
const FakeBucket = "repositories"

// FakeOptions say what a fake does otherwise than S3.
type FakeOptions struct {
	Ignores  []string // these conditions, by their header
	PageSize string   // that many objects in a page of a list; "": 1000
	Clock    *Clock   // its own; nil: it tells this machine's time
	NoDate   bool     // its answers do not tell the time
}

// A Clock stands still until Turn.
type Clock struct{ seconds atomic.Int64 }

// NewClock shows a time.
func NewClock(now time.Time) *Clock {
	c := new(Clock)
	c.seconds.Store(now.Unix())
	return c
}

// Turn turns the clock forward.
func (c *Clock) Turn(by time.Duration) { c.seconds.Add(int64(by.Seconds())) }

// Now implements gofakes3.TimeSource.
func (c *Clock) Now() time.Time { return time.Unix(c.seconds.Load(), 0).UTC() }

// Since implements gofakes3.TimeSource.
func (c *Clock) Since(t time.Time) time.Duration { return c.Now().Sub(t) }

// Fake runs a store in the process until the test ends, and returns its URL. Whoever
// signs a request may do all. It keeps the conditions of writes and deletions as the
// documentation of S3 says, which the library that it stands on does only in part.
func Fake(t testing.TB, o FakeOptions) string {
	t.Helper()
	clock := gofakes3.DefaultTimeSource()
	if o.Clock != nil {
		clock = o.Clock
	}
	backend := s3mem.New(s3mem.WithTimeSource(clock))
	must.OK(t, backend.CreateBucket(FakeBucket))
	// A store refuses whoever's clock is too far off; a test may want that it is.
	inner := gofakes3.New(backend, gofakes3.WithTimeSource(clock), gofakes3.WithTimeSkewLimit(0)).Server()
	s := httptest.NewServer(&conditional{FakeOptions: o, inner: inner, clock: clock})
	t.Cleanup(s.Close)
	return s.URL
}

// SetCredentials gives the test's process those that all stores here take.
func SetCredentials(t testing.TB) {
	for _, set := range Env() {
		name, value, _ := strings.Cut(set, "=")
		t.Setenv(name, value)
	}
}

// conditional keeps the conditions of a store that does not.
type conditional struct {
	FakeOptions
	inner http.Handler
	clock gofakes3.TimeSource
	keys  sync.Map // of *sync.Mutex, by path: what is written and may be looked at meanwhile
}

func (c *conditional) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header()["Date"] = nil // that none is added
	if !c.NoDate {
		w.Header().Set("Date", c.clock.Now().UTC().Format(http.TimeFormat))
	}
	query := r.URL.Query()
	if c.PageSize != "" && query.Has("list-type") {
		query.Set("max-keys", c.PageSize)
		r.URL.RawQuery = query.Encode()
	}
	isObject := strings.Count(strings.Trim(r.URL.Path, "/"), "/") > 0
	if r.Method == http.MethodGet || r.Method == http.MethodHead || !isObject || query.Has("partNumber") {
		c.inner.ServeHTTP(w, r)
		return
	}
	key, _ := c.keys.LoadOrStore(r.URL.Path, new(sync.Mutex))
	mu := key.(*sync.Mutex)
	mu.Lock()
	defer mu.Unlock()
	if status, code := c.unmet(r); status != 0 {
		answerError(w, status, code)
		return
	}
	if r.Header.Get(writtenBy) == "" {
		r.Header.Set(writtenBy, "") // or that of the object before would stay
	}
	c.inner.ServeHTTP(w, r)
}

// writtenBy is the metadata that objects have in this project.
const writtenBy = "X-Amz-Meta-By"

// unmet is the answer to a request whose condition does not hold, and takes those away
// that do.
func (c *conditional) unmet(r *http.Request) (status int, code string) {
	for _, name := range c.Ignores {
		r.Header.Del(name)
	}
	match, none := r.Header.Get("If-Match"), r.Header.Get("If-None-Match")
	r.Header.Del("If-Match")
	r.Header.Del("If-None-Match")
	if match == "" && none == "" {
		return 0, ""
	}
	etag, is := c.etag(r.URL.EscapedPath())
	switch {
	case none == "*" && is:
		return http.StatusPreconditionFailed, "PreconditionFailed"
	case match != "" && !is:
		return http.StatusNotFound, "NoSuchKey"
	case match != "" && strings.Trim(match, `"`) != strings.Trim(etag, `"`):
		return http.StatusPreconditionFailed, "PreconditionFailed"
	}
	return 0, ""
}

// etag looks at an object.
func (c *conditional) etag(path string) (etag string, is bool) {
	answer := httptest.NewRecorder()
	c.inner.ServeHTTP(answer, httptest.NewRequest(http.MethodHead, path, nil))
	return answer.Header().Get("ETag"), answer.Code == http.StatusOK
}

// answerError answers as S3 does.
func answerError(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	// Who went away meanwhile needs no answer.
	_, _ = fmt.Fprintf(w, `<?xml version="1.0" encoding="UTF-8"?>`+"\n"+`<Error><Code>%s</Code><Message>a test wants it so</Message></Error>`, code)
}
