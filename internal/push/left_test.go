// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package push_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/test/must"
)

// Where one ref is too large, the others go on from the server's commits, also if an
// older commit is not here whole any more; the error names the file in its ref.
func TestLeftOutBesideHistory(t *testing.T) {
	s := newSite(t, "archive")
	s.limits(func(l *config.Limits) { l.MaxObjectSize = 1 << 20 })
	s.file("old", []byte("only in the first commit"))
	s.commit("os/a")
	s.commit("os/b")
	s.succeed()
	old, err := filepath.Glob(filepath.Join(s.repo, "objects/*/*.filez"))
	must.OK(t, err)
	for _, path := range old {
		must.OK(t, os.Remove(path)) // as if pruned: the server has it
	}
	must.OK(t, os.Remove(filepath.Join(s.tree, "old")))
	s.file("new", []byte("new"))
	a := s.commit("os/a")
	s.file("big", make([]byte, 2<<20))
	s.commit("os/b")
	result, e := s.fail(3, "left out 1", "/big of ref os/b ", "max-object-size")
	if s.Ref("os/a") != a || !result.Done() || len(result.Refs) != 1 {
		t.Errorf("os/a is %q, %+v", s.Ref("os/a"), e)
	}
}

// A push that left refs out and then failed for another reason is not done: what it
// was to move is not told as published.
func TestLeftAndFailed(t *testing.T) {
	s := newSite(t, "archive")
	s.file("a", []byte("a"))
	must.OSTree(t, "refs", "--repo="+s.repo, "--create=unbound", s.commit("good"))
	to, err := url.Parse(s.URL)
	must.OK(t, err)
	proxy := httputil.NewSingleHostReverseProxy(to)
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "POST" && r.URL.Path == "/api/v1/sessions" {
			http.Error(w, "busy", http.StatusServiceUnavailable)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	s.opt.Server.Address = front.URL
	result, _ := s.fail(75, "503")
	if len(result.Left) != 1 || len(result.Refs) != 1 || result.Done() {
		t.Errorf("%+v", result)
	}
}

// Of many refs that are left out the error names some and says how many there are;
// the result has all.
func TestManyLeftOut(t *testing.T) {
	s := newSite(t, "archive")
	s.file("a", []byte("a"))
	commit := s.commit("good")
	for i := range 60 {
		must.OK(t, os.WriteFile(filepath.Join(s.repo, "refs/heads", fmt.Sprintf("unbound%02d", i)), []byte(commit), 0o644))
	}
	result, e := s.fail(3, "left out 60 of the refs", "unbound49", "and 10 others, which --json lists")
	if len(result.Left) != 60 || strings.Contains(e.Error(), "unbound50") {
		t.Errorf("%d are left, %v", len(result.Left), e)
	}
}
