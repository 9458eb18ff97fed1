// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package push_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/lirios/ostree-upload/internal/client"
	"github.com/lirios/ostree-upload/internal/push"
	"github.com/lirios/ostree-upload/test/must"
	ts "github.com/lirios/ostree-upload/test/server"
)

// point has n refs of a repository name a commit.
func point(t testing.TB, repo, commit string, n int) {
	t.Helper()
	for i := range n {
		path := filepath.Join(repo, "refs", "heads", "app", fmt.Sprintf("a%d", i/100), fmt.Sprintf("r%d", i))
		must.OK(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must.OK(t, os.WriteFile(path, []byte(commit+"\n"), 0o644))
	}
}

// 10,000 refs go in one push.
func TestManyRefs(t *testing.T) {
	s := newSite(t, "archive")
	commit := s.commit("first", "--no-bindings")
	const refs = 10_000
	point(t, s.repo, commit, refs)
	if r := s.succeed(); len(r.Refs) != refs+1 || len(r.Left) > 0 || len(r.Sessions) > 1 {
		t.Errorf("%d refs in %d sessions, left %v", len(r.Refs), len(r.Sessions), r.Left)
	}
	if r := s.succeed(); !r.NothingToDo {
		t.Errorf("once more: %d refs", len(r.Refs))
	}
}

// A push with nothing to do, of one ref and of all, where there are 20,000.
func BenchmarkNothingToDo(b *testing.B) {
	const refs = 20_000
	s := ts.Start(b, "archive")
	repo := filepath.Join(b.TempDir(), "build")
	commit := ts.Commit(b, repo, "one", "salt", 3)
	must.OSTree(b, "pull-local", "--repo="+s.Repo, repo, "one")
	for _, r := range []string{repo, s.Repo} {
		point(b, r, commit.String(), refs)
	}
	for _, c := range []struct {
		name string
		refs []string
	}{{"one", []string{"one"}}, {"all", nil}} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				r, err := push.Run(b.Context(), push.Options{Repo: repo, Refs: c.refs, Depth: -1, Server: client.Options{Address: s.URL, Token: s.Token}})
				if err != nil || !r.NothingToDo {
					b.Fatalf("%+v: %v", r, err)
				}
			}
		})
	}
}
