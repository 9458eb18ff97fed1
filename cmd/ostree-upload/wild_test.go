// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/push"
	"github.com/lirios/ostree-upload/internal/wire"
)

// partialMark is where libostree notes that a commit is incomplete.
func partialMark(repo, commit string) string {
	return filepath.Join(repo, "state", commit+".commitpartial")
}

// A commit that the build repository has only in part is not pushed, and no
// session is opened for it.
func TestPartialSource(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	b := small(t, "os/part", "part")
	check(t, writeFile(partialMark(b.repo, b.commit), nil, 0o644))
	for _, args := range [][]string{{}, {"--dry-run"}} {
		e := s.run(append([]string{"push", "--repo", b.repo}, args...)...).must(t, push.ExitFailed)
		if !strings.Contains(e.stderr, b.commit+" is only partly in repository") || !strings.Contains(e.stderr, "\nhint: ") {
			t.Errorf("it says %s", e.stderr)
		}
	}
	if open := s.sessions(wire.Open); len(open) != 0 {
		t.Errorf("%d sessions are open", len(open))
	}
	check(t, os.Remove(partialMark(b.repo, b.commit)))
	s.push(b)
	published(t, b, s.prod)
}

// sharedBy finds an object of a type that two commits of a repository need.
func sharedBy(t *testing.T, repo string, kind ostree.Type, a, b string) ostree.Name {
	t.Helper()
	r, err := ostree.OpenRepo(repo)
	check(t, err)
	seen := map[ostree.Name]int{}
	for _, hex := range []string{a, b} {
		c, err := ostree.ParseChecksum(hex)
		check(t, err)
		check(t, r.Walk(t.Context(), []ostree.Checksum{c}, ostree.WalkOptions{Depth: 0}, func(n ostree.Name) error {
			seen[n]++
			return nil
		}))
	}
	for n, times := range seen {
		if times == 2 && n.Type == kind {
			return n
		}
	}
	t.Fatalf("the commits share no %s", kind)
	return ostree.Name{}
}

// Where the production repository is less complete than its ref promises, the
// push of the next commit notices, sends what is missing, and publishes.
func TestRepair(t *testing.T) {
	t.Parallel()
	const ref = "os/wild"
	repo := filepath.Join(t.TempDir(), "build")
	commits := chain(t, repo, ref, 2)
	lost := func(kind ostree.Type) func(*site) {
		return func(s *site) {
			n := sharedBy(t, repo, kind, commits[0], commits[1])
			check(t, os.Remove(filepath.Join(s.prod, "objects", n.Path())))
		}
	}
	for name, damage := range map[string]func(*site){
		"file lost below a present tree": lost(ostree.File),
		"tree lost":                      lost(ostree.DirTree),
		"folder's mode lost":             lost(ostree.DirMeta),
		"commit marked partial": func(s *site) {
			lost(ostree.File)(s)
			check(t, writeFile(partialMark(s.prod, commits[0]), nil, 0o644))
		},
		"commit lost": func(s *site) {
			lost(ostree.File)(s)
			check(t, os.Remove(filepath.Join(s.prod, "objects", commits[0][:2], commits[0][2:]+".commit")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			own := &build{repo: filepath.Join(s.dir, "build")}
			runOSTree(t, "init", "--repo="+own.repo, "--mode=archive")
			runOSTree(t, "pull-local", "--depth=-1", "--repo="+own.repo, repo, ref)
			s.pushAs(own, ref, commits[0])
			s.emptyStaging()
			damage(s)
			r := s.pushAs(own, ref, commits[1])
			if r.Rounds != 1 {
				t.Errorf("it took %d rounds", r.Rounds)
			}
			s.atHead(ref, commits[1])
			runOSTree(t, "fsck", "--repo="+s.prod)
			runOSTree(t, "ls", "-R", "-C", "--repo="+s.prod, ref)
		})
	}
}

// A commit that was deleted from production, with a tombstone, may come again.
func TestTombstone(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	b := &build{repo: filepath.Join(s.dir, "build")}
	commits := chain(t, b.repo, "os/back", 2)
	s.push(b)
	runOSTree(t, "config", "--repo="+s.prod, "set", "core.tombstone-commits", "true")
	runOSTree(t, "refs", "--repo="+s.prod, "--delete", "os/back")
	runOSTree(t, "prune", "--refs-only", "--repo="+s.prod)
	stones := func() []string {
		list, err := filepath.Glob(filepath.Join(s.prod, "objects", "*", "*.tombstone-commit"))
		check(t, err)
		return list
	}
	if len(stones()) != 2 {
		t.Fatalf("prune left %d tombstones", len(stones()))
	}
	s.push(b)
	s.atHead("os/back", commits[1])
	if left := stones(); len(left) != 0 {
		t.Errorf("tombstones are left: %v", left)
	}
	client := filepath.Join(s.dir, "client")
	runOSTree(t, "init", "--repo="+client, "--mode=archive")
	runOSTree(t, "remote", "add", "--repo="+client, "--no-gpg-verify", "prod", "file://"+s.prod)
	runOSTree(t, "pull", "--repo="+client, "--depth=-1", "prod", "os/back")
}

// A commit that was deleted from the build repository is not pushed.
func TestTombstoneAtSource(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	b := small(t, "os/dead", "dead")
	check(t, writeFile(filepath.Join(b.repo, "objects", b.commit[:2], b.commit[2:]+".tombstone-commit"), nil, fs.FileMode(0o644)))
	e := s.run("push", "--repo", b.repo).must(t, push.ExitFailed)
	if !strings.Contains(e.stderr, "was deleted from repository") {
		t.Errorf("it says %s", e.stderr)
	}
	s.noRefs()
}
