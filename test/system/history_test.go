// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package system

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/internal/push"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/site"
)

// holds checks which of some commits a repository has, with their trees.
func holds(t *testing.T, repo string, commits []string, want ...bool) {
	t.Helper()
	for i, c := range commits {
		_, err := os.Stat(filepath.Join(repo, "objects", c[:2], c[2:]+".commit"))
		if (err == nil) != want[i] {
			t.Errorf("commit %d of %d: there is %v, want %v", i, len(commits), err == nil, want[i])
		}
		if err == nil {
			must.OSTree(t, "ls", "-R", "--repo="+repo, c)
		}
	}
}

// --depth limits what a new ref brings of its history, and never leaves a gap
// between the server's commit and ours.
func TestHistory(t *testing.T) {
	t.Parallel()
	const ref = "os/history"
	for name, c := range map[string]struct {
		published int // the commit that the server has, -1 for none
		args      []string
		sent      []bool
	}{
		"all of a new ref":      {-1, nil, []bool{true, true, true, true, true}},
		"head of a new ref":     {-1, []string{"--depth", "0"}, []bool{false, false, false, false, true}},
		"two of a new ref":      {-1, []string{"--depth", "1"}, []bool{false, false, false, true, true}},
		"more than there is":    {-1, []string{"--depth", "9"}, []bool{true, true, true, true, true}},
		"all between":           {1, nil, []bool{false, true, true, true, true}},
		"no gap with depth 0":   {1, []string{"--depth", "0"}, []bool{false, true, true, true, true}},
		"no gap with depth 1":   {1, []string{"--depth", "1"}, []bool{false, true, true, true, true}},
		"no more than between":  {3, []string{"--depth", "0"}, []bool{false, false, false, true, true}},
		"further than between":  {3, []string{"--depth", "9"}, []bool{false, false, false, true, true}},
		"nothing but the child": {3, nil, []bool{false, false, false, true, true}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := site.New(t)
			b := &site.Build{Repo: filepath.Join(s.Dir, "build")}
			commits := site.Chain(t, b.Repo, ref, 5)
			if c.published >= 0 {
				site.Branch(t, b.Repo, ref, commits[c.published])
				s.Push(b, "--depth", "0")
				site.Branch(t, b.Repo, ref, commits[4])
			}
			s.Push(b, c.args...)
			s.AtHead(ref, commits[4])
			holds(t, s.Prod, commits, c.sent...)
		})
	}
}

// Another ref of the server may name a commit between old and new without the
// parents of it: those travel too.
func TestGapBehindAnotherRef(t *testing.T) {
	t.Parallel()
	s := site.New(t)
	b := &site.Build{Repo: filepath.Join(s.Dir, "build")}
	commits := site.Chain(t, b.Repo, "os/main", 5)
	s.PushAs(b, "os/main", commits[0])
	s.PushAs(b, "os/shallow", commits[3], "--depth", "0")
	holds(t, s.Prod, commits[:4], true, false, false, true)
	s.PushAs(b, "os/main", commits[4])
	holds(t, s.Prod, commits, true, true, true, true, true)
}

// History that the build repository does not have ends the walk: it was pulled
// without, or pruned.
func TestShallowBuildRepository(t *testing.T) {
	t.Parallel()
	const ref = "os/shallow"
	full := filepath.Join(t.TempDir(), "full")
	commits := site.Chain(t, full, ref, 3)
	for name, shallow := range map[string]func(repo string){
		"pulled": func(repo string) {
			must.OSTree(t, "init", "--repo="+repo, "--mode=bare-user")
			must.OSTree(t, "pull-local", "--depth=0", "--repo="+repo, full, ref)
		},
		"pruned": func(repo string) {
			must.OSTree(t, "init", "--repo="+repo, "--mode=archive")
			must.OSTree(t, "pull-local", "--depth=-1", "--repo="+repo, full, ref)
			must.OSTree(t, "prune", "--refs-only", "--depth=0", "--repo="+repo)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := site.New(t)
			b := &site.Build{Repo: filepath.Join(s.Dir, "build")}
			shallow(b.Repo)
			s.Push(b)
			s.AtHead(ref, commits[2])
			holds(t, s.Prod, commits, false, false, true)
			tree := filepath.Join(s.Dir, "tree")
			must.OK(t, site.WriteFile(filepath.Join(tree, "next"), []byte("next"), 0o644))
			s.Push(b) // nothing to do
			next := must.OSTree(t, "commit", "--repo="+b.Repo, "--branch="+ref, "--tree=dir="+tree)
			s.Push(b)
			s.AtHead(ref, next)
		})
	}
}

// A commit that does not descend from the server's goes only with --force, and
// leaves nothing of itself behind before.
func TestNotFastForward(t *testing.T) {
	t.Parallel()
	const ref = "os/fork"
	s := site.NewOf(t, "archive") // with a token that may force
	b := &site.Build{Repo: filepath.Join(s.Dir, "build")}
	commits := site.Chain(t, b.Repo, ref, 3)
	s.PushAs(b, ref, commits[2])
	tree := filepath.Join(s.Dir, "tree")
	must.OK(t, site.WriteFile(filepath.Join(tree, "fork"), []byte("fork"), 0o644))
	fork := site.Commit(t, b.Repo, "archive", ref, tree, "--parent="+commits[0])
	before := content(t, s.Prod)
	for _, commit := range []string{fork, commits[1]} { // beside, and back
		site.Branch(t, b.Repo, ref, commit)
		e := s.Run("push", "--json", "--repo", b.Repo).Must(t, push.ExitRefused)
		if r := e.Result(t); r.ErrorCode != wire.NotFastForward || !strings.Contains(e.Stderr, "hint: rebuild on top of") {
			t.Errorf("%s: %s", r.ErrorCode, e.Stderr)
		}
	}
	same(t, "the repository", content(t, s.Prod), before)
	s.Push(b, "--force") // back
	s.AtHead(ref, commits[1])
	site.Branch(t, b.Repo, ref, fork)
	s.Push(b, "--force", "--depth", "0")
	s.AtHead(ref, fork)
}

// Several refs flip in one session, with history that they share; a ref that
// would be a folder of another takes all of them down.
func TestRefsTogether(t *testing.T) {
	t.Parallel()
	s := site.New(t)
	b := &site.Build{Repo: filepath.Join(s.Dir, "build")}
	one, two := site.Chain(t, b.Repo, "os/one", 3), site.Chain(t, b.Repo, "os/two", 2)
	if r := s.Push(b); len(r.Refs) != 2 || len(r.Session.Refs) != 2 {
		t.Errorf("refs %v, session %v", r.Refs, r.Session.Refs)
	}
	s.AtHead("os/one", one[2])
	s.AtHead("os/two", two[1])
	if n := len(s.Sessions(wire.Published)); n != 1 {
		t.Errorf("%d sessions for two refs", n)
	}

	site.Chain(t, b.Repo, "os/one", 1)
	must.OSTree(t, "refs", "--repo="+b.Repo, "--delete", "os/two") // it stands in the way here, too
	site.Chain(t, b.Repo, "os/two/below", 1)
	before := content(t, s.Prod)
	e := s.Run("push", "--json", "--repo", b.Repo, "os/one", "os/two/below").Must(t, push.ExitRefused)
	if r := e.Result(t); r.ErrorCode != wire.RefConflict || !strings.Contains(r.Error, "os/two") {
		t.Errorf("%s: %s", r.ErrorCode, r.Error)
	}
	same(t, "the repository", content(t, s.Prod), before)
	if open := s.Sessions(wire.Open); len(open) != 0 {
		t.Errorf("%d sessions are open", len(open))
	}
}
