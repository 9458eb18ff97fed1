// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/internal/push"
	"github.com/lirios/ostree-upload/internal/wire"
)

// chain commits n states of a small tree to a branch, and returns the commits,
// the oldest first.
func chain(t *testing.T, repo, ref string, n int) (commits []string) {
	t.Helper()
	tree := filepath.Join(t.TempDir(), "tree")
	check(t, writeFile(filepath.Join(tree, "same", "file"), []byte("in all of them"), 0o644))
	flags := append([]string{"--no-bindings"}, canonical...) // so that any ref may name them
	for i := range n {
		check(t, writeFile(filepath.Join(tree, "state"), []byte(fmt.Sprintln(ref, i)), 0o644))
		commits = append(commits, commitIn(t, repo, "archive", ref, tree, flags...))
	}
	return commits
}

// branch points a ref of a repository to a commit.
func branch(t *testing.T, repo, ref, commit string) {
	t.Helper()
	runOSTree(t, "refs", "--repo="+repo, "--force", "--create="+ref, commit)
}

// holds checks which of some commits a repository has, with their trees.
func holds(t *testing.T, repo string, commits []string, want ...bool) {
	t.Helper()
	for i, c := range commits {
		_, err := os.Stat(filepath.Join(repo, "objects", c[:2], c[2:]+".commit"))
		if (err == nil) != want[i] {
			t.Errorf("commit %d of %d: there is %v, want %v", i, len(commits), err == nil, want[i])
		}
		if err == nil {
			runOSTree(t, "ls", "-R", "--repo="+repo, c)
		}
	}
}

// atHead checks what a ref of the production repository names.
func (s *site) atHead(ref, commit string) {
	s.t.Helper()
	if head := runOSTree(s.t, "rev-parse", "--repo="+s.prod, ref); head != commit {
		s.t.Errorf("%s is %s, want %s", ref, head, commit)
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
			s := newSite(t)
			b := &build{repo: filepath.Join(s.dir, "build")}
			commits := chain(t, b.repo, ref, 5)
			if c.published >= 0 {
				branch(t, b.repo, ref, commits[c.published])
				s.push(b, "--depth", "0")
				branch(t, b.repo, ref, commits[4])
			}
			s.push(b, c.args...)
			s.atHead(ref, commits[4])
			holds(t, s.prod, commits, c.sent...)
		})
	}
}

// Another ref of the server may name a commit between old and new without the
// parents of it: those travel too.
func TestGapBehindAnotherRef(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	b := &build{repo: filepath.Join(s.dir, "build")}
	commits := chain(t, b.repo, "os/main", 5)
	s.pushAs(b, "os/main", commits[0])
	s.pushAs(b, "os/shallow", commits[3], "--depth", "0")
	holds(t, s.prod, commits[:4], true, false, false, true)
	s.pushAs(b, "os/main", commits[4])
	holds(t, s.prod, commits, true, true, true, true, true)
}

// pushAs points a ref of the build repository to a commit and pushes it.
func (s *site) pushAs(b *build, ref, commit string, args ...string) push.Result {
	s.t.Helper()
	branch(s.t, b.repo, ref, commit)
	return s.push(b, append(args, ref)...)
}

// History that the build repository does not have ends the walk: it was pulled
// without, or pruned.
func TestShallowBuildRepository(t *testing.T) {
	t.Parallel()
	const ref = "os/shallow"
	full := filepath.Join(t.TempDir(), "full")
	commits := chain(t, full, ref, 3)
	for name, shallow := range map[string]func(repo string){
		"pulled": func(repo string) {
			runOSTree(t, "init", "--repo="+repo, "--mode=bare-user")
			runOSTree(t, "pull-local", "--depth=0", "--repo="+repo, full, ref)
		},
		"pruned": func(repo string) {
			runOSTree(t, "init", "--repo="+repo, "--mode=archive")
			runOSTree(t, "pull-local", "--depth=-1", "--repo="+repo, full, ref)
			runOSTree(t, "prune", "--refs-only", "--depth=0", "--repo="+repo)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			b := &build{repo: filepath.Join(s.dir, "build")}
			shallow(b.repo)
			s.push(b)
			s.atHead(ref, commits[2])
			holds(t, s.prod, commits, false, false, true)
			tree := filepath.Join(s.dir, "tree")
			check(t, writeFile(filepath.Join(tree, "next"), []byte("next"), 0o644))
			s.push(b) // nothing to do
			next := runOSTree(t, "commit", "--repo="+b.repo, "--branch="+ref, "--tree=dir="+tree)
			s.push(b)
			s.atHead(ref, next)
		})
	}
}

// A commit that does not descend from the server's goes only with --force, and
// leaves nothing of itself behind before.
func TestNotFastForward(t *testing.T) {
	t.Parallel()
	const ref = "os/fork"
	s := newSiteOf(t, "archive") // with a token that may force
	b := &build{repo: filepath.Join(s.dir, "build")}
	commits := chain(t, b.repo, ref, 3)
	s.pushAs(b, ref, commits[2])
	tree := filepath.Join(s.dir, "tree")
	check(t, writeFile(filepath.Join(tree, "fork"), []byte("fork"), 0o644))
	fork := commitIn(t, b.repo, "archive", ref, tree, "--parent="+commits[0])
	before := content(t, s.prod)
	for _, commit := range []string{fork, commits[1]} { // beside, and back
		branch(t, b.repo, ref, commit)
		e := s.run("push", "--json", "--repo", b.repo).must(t, push.ExitRefused)
		if r := e.result(t); r.ErrorCode != wire.NotFastForward || !strings.Contains(e.stderr, "hint: rebuild on top of") {
			t.Errorf("%s: %s", r.ErrorCode, e.stderr)
		}
	}
	same(t, "the repository", content(t, s.prod), before)
	s.push(b, "--force") // back
	s.atHead(ref, commits[1])
	branch(t, b.repo, ref, fork)
	s.push(b, "--force", "--depth", "0")
	s.atHead(ref, fork)
}

// Several refs flip in one session, with history that they share; a ref that
// would be a folder of another takes all of them down.
func TestRefsTogether(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	b := &build{repo: filepath.Join(s.dir, "build")}
	one, two := chain(t, b.repo, "os/one", 3), chain(t, b.repo, "os/two", 2)
	if r := s.push(b); len(r.Refs) != 2 || len(r.Session.Refs) != 2 {
		t.Errorf("refs %v, session %v", r.Refs, r.Session.Refs)
	}
	s.atHead("os/one", one[2])
	s.atHead("os/two", two[1])
	if n := len(s.sessions(wire.Published)); n != 1 {
		t.Errorf("%d sessions for two refs", n)
	}

	chain(t, b.repo, "os/one", 1)
	runOSTree(t, "refs", "--repo="+b.repo, "--delete", "os/two") // it stands in the way here, too
	chain(t, b.repo, "os/two/below", 1)
	before := content(t, s.prod)
	e := s.run("push", "--json", "--repo", b.repo, "os/one", "os/two/below").must(t, push.ExitRefused)
	if r := e.result(t); r.ErrorCode != wire.RefConflict || !strings.Contains(r.Error, "os/two") {
		t.Errorf("%s: %s", r.ErrorCode, r.Error)
	}
	same(t, "the repository", content(t, s.prod), before)
	if open := s.sessions(wire.Open); len(open) != 0 {
		t.Errorf("%d sessions are open", len(open))
	}
}
