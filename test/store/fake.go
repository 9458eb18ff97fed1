// SPDX-License-Identifier: AGPL-3.0-or-later

package store

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

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
}

// Fake runs a store in the process until the test ends, and returns its URL. Whoever
// signs a request may do all. It keeps the conditions of writes and deletions as the
// documentation of S3 says, which the library that it stands on does only in part.
func Fake(t testing.TB, o FakeOptions) string {
	t.Helper()
	backend := s3mem.New()
	must.OK(t, backend.CreateBucket(FakeBucket))
	s := httptest.NewServer(&conditional{FakeOptions: o, inner: gofakes3.New(backend).Server()})
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
	keys  sync.Map // of *sync.Mutex, by path: what is written and may be looked at meanwhile
}

func (c *conditional) ServeHTTP(w http.ResponseWriter, r *http.Request) {
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
	c.inner.ServeHTTP(w, r)
}

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
