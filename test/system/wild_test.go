// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package system

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/push"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/site"
)

// A commit that the build repository has only in part is not pushed, and no
// session is opened for it.
func TestPartialSource(t *testing.T) {
	t.Parallel()
	s := site.New(t)
	b := site.Small(t, "os/part", "part")
	must.OK(t, site.WriteFile(site.PartialMark(b.Repo, b.Commit), nil, 0o644))
	for _, args := range [][]string{{}, {"--dry-run"}} {
		e := s.Run(append([]string{"push", "--repo", b.Repo}, args...)...).Must(t, push.ExitFailed)
		if !strings.Contains(e.Stderr, b.Commit+" is only partly in repository") || !strings.Contains(e.Stderr, "\nhint: ") {
			t.Errorf("it says %s", e.Stderr)
		}
	}
	if open := s.Sessions(wire.Open); len(open) != 0 {
		t.Errorf("%d sessions are open", len(open))
	}
	must.OK(t, os.Remove(site.PartialMark(b.Repo, b.Commit)))
	s.Push(b)
	site.Published(t, b, s.Prod)
}

// sharedBy finds an object of a type that two commits of a repository need.
func sharedBy(t *testing.T, repo string, kind ostree.Type, a, b string) ostree.Name {
	t.Helper()
	r, err := ostree.OpenRepo(repo)
	must.OK(t, err)
	seen := map[ostree.Name]int{}
	for _, hex := range []string{a, b} {
		c, err := ostree.ParseChecksum(hex)
		must.OK(t, err)
		must.OK(t, r.Walk(t.Context(), []ostree.Checksum{c}, ostree.WalkOptions{Depth: 0}, func(n ostree.Name) error {
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
	commits := site.Chain(t, repo, ref, 2)
	lost := func(kind ostree.Type) func(*site.Site) {
		return func(s *site.Site) {
			n := sharedBy(t, repo, kind, commits[0], commits[1])
			must.OK(t, os.Remove(filepath.Join(s.Prod, "objects", n.Path())))
		}
	}
	for name, damage := range map[string]func(*site.Site){
		"file lost below a present tree": lost(ostree.File),
		"tree lost":                      lost(ostree.DirTree),
		"folder's mode lost":             lost(ostree.DirMeta),
		"commit marked partial": func(s *site.Site) {
			lost(ostree.File)(s)
			must.OK(t, site.WriteFile(site.PartialMark(s.Prod, commits[0]), nil, 0o644))
		},
		"commit lost": func(s *site.Site) {
			lost(ostree.File)(s)
			must.OK(t, os.Remove(filepath.Join(s.Prod, "objects", commits[0][:2], commits[0][2:]+".commit")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := site.New(t)
			own := &site.Build{Repo: filepath.Join(s.Dir, "build")}
			must.OSTree(t, "init", "--repo="+own.Repo, "--mode=archive")
			must.OSTree(t, "pull-local", "--depth=-1", "--repo="+own.Repo, repo, ref)
			s.PushAs(own, ref, commits[0])
			s.EmptyStaging()
			damage(s)
			r := s.PushAs(own, ref, commits[1])
			if r.Rounds != 1 {
				t.Errorf("it took %d rounds", r.Rounds)
			}
			s.AtHead(ref, commits[1])
			must.OSTree(t, "fsck", "--repo="+s.Prod)
			must.OSTree(t, "ls", "-R", "-C", "--repo="+s.Prod, ref)
		})
	}
}

// A commit that was deleted from production, with a tombstone, may come again.
func TestTombstone(t *testing.T) {
	t.Parallel()
	s := site.New(t)
	b := &site.Build{Repo: filepath.Join(s.Dir, "build")}
	commits := site.Chain(t, b.Repo, "os/back", 2)
	s.Push(b)
	must.OSTree(t, "config", "--repo="+s.Prod, "set", "core.tombstone-commits", "true")
	must.OSTree(t, "refs", "--repo="+s.Prod, "--delete", "os/back")
	must.OSTree(t, "prune", "--refs-only", "--repo="+s.Prod)
	stones := func() []string {
		list, err := filepath.Glob(filepath.Join(s.Prod, "objects", "*", "*.tombstone-commit"))
		must.OK(t, err)
		return list
	}
	if len(stones()) != 2 {
		t.Fatalf("prune left %d tombstones", len(stones()))
	}
	s.Push(b)
	s.AtHead("os/back", commits[1])
	if left := stones(); len(left) != 0 {
		t.Errorf("tombstones are left: %v", left)
	}
	client := filepath.Join(s.Dir, "client")
	must.OSTree(t, "init", "--repo="+client, "--mode=archive")
	must.OSTree(t, "remote", "add", "--repo="+client, "--no-gpg-verify", "prod", "file://"+s.Prod)
	must.OSTree(t, "pull", "--repo="+client, "--depth=-1", "prod", "os/back")
}

// A commit that was deleted from the build repository is not pushed.
func TestTombstoneAtSource(t *testing.T) {
	t.Parallel()
	s := site.New(t)
	b := site.Small(t, "os/dead", "dead")
	must.OK(t, site.WriteFile(filepath.Join(b.Repo, "objects", b.Commit[:2], b.Commit[2:]+".tombstone-commit"), nil, fs.FileMode(0o644)))
	e := s.Run("push", "--repo", b.Repo).Must(t, push.ExitFailed)
	if !strings.Contains(e.Stderr, "was deleted from repository") {
		t.Errorf("it says %s", e.Stderr)
	}
	s.NoRefs()
}
