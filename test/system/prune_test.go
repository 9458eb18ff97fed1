// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package system

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/site"
)

// While prune takes away what deleted refs leave, each push ends with a complete
// commit, or with an error that says what to do. Several push at once: much of
// the time they wait for the repository's lock.
func TestPruneDuringPushes(t *testing.T) {
	t.Parallel()
	const workers, each = 5, 4
	s := site.New(t)
	p := site.StartPruner(s.Prod)
	defer p.End(t)
	var arrived atomic.Int64
	var wg sync.WaitGroup
	for w := range workers {
		tree, repo := filepath.Join(s.Dir, fmt.Sprint("tree", w)), filepath.Join(s.Dir, fmt.Sprint("build", w))
		must.OK(t, site.SmallTree(tree, 30, "prune")) // the same for all
		must.OSTree(t, "init", "--repo="+repo, "--mode=archive")
		wg.Go(func() {
			for i := range each {
				if pushUnderPrune(s, p, repo, tree, w, i) {
					arrived.Add(1)
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d of %d pushes arrived", arrived.Load(), workers*each)
	if arrived.Load() == 0 {
		t.Error("no push arrived")
	}
}

// pushUnderPrune pushes a changed tree: by turns to the worker's own branch, and
// to a new ref that it deletes again, so that there is something to prune.
func pushUnderPrune(s *site.Site, p *site.Pruner, repo, tree string, worker, i int) (arrived bool) {
	t, ref, passing := s.T, fmt.Sprint("os/stable", worker), i%2 == 1
	if passing {
		ref = fmt.Sprintf("os/nightly%d-%d", worker, i)
	}
	changed := filepath.Join(tree, "d0", fmt.Sprint("f", i))
	if err := site.WriteFile(changed, site.RandomBytes(rand.NewChaCha8([32]byte{byte(worker), byte(i)}), 9000), 0o644); err != nil {
		t.Error(err)
		return false
	}
	commit, err := site.OSTree("commit", "--repo="+repo, "--branch="+ref, "--tree=dir="+tree)
	if err != nil {
		t.Error(err)
		return false
	}
	out, err := s.Command("push", "--repo", repo, ref).CombinedOutput()
	if err != nil && !strings.Contains(string(out), "\nhint: ") {
		t.Errorf("push %d of %d ends with no hint: %v\n%s", i, worker, err, out)
	}
	p.Paused(func() {
		if out, err := site.Fsck(s.Prod); err != nil {
			t.Errorf("after push %d of %d: %v\n%s", i, worker, err, out)
		}
		head, wrong := site.OSTree("rev-parse", "--repo="+s.Prod, ref)
		if arrived = err == nil; arrived && (wrong != nil || head != commit) {
			t.Errorf("%s is %s, want %s: %v", ref, head, commit, wrong)
		}
		if arrived && passing {
			// Nor does deleting a ref take a lock: prune fails if one goes while it
			// lists them.
			if _, err := site.OSTree("refs", "--repo="+s.Prod, "--delete", ref); err != nil {
				t.Error(err)
			}
		}
	})
	return arrived
}

// What prune removes after the server said that it has it is noticed before the
// ref moves, and sent by itself.
func TestPruneAfterNegotiation(t *testing.T) {
	t.Parallel()
	s := site.New(t)
	b := &site.Build{Repo: filepath.Join(s.Dir, "build")}
	tree := filepath.Join(s.Dir, "tree")
	must.OK(t, site.SmallTree(tree, 60, "pruned"))
	site.Commit(t, b.Repo, "archive", "os/old", tree, site.Canonical...)
	s.Push(b)
	must.OSTree(t, "refs", "--repo="+s.Prod, "--delete", "os/old")
	must.OSTree(t, "refs", "--repo="+b.Repo, "--delete", "os/old")

	s.EmptyStaging()
	must.OK(t, site.SmallTree(filepath.Join(tree, "more"), 60, "new"))
	commit := site.Commit(t, b.Repo, "archive", "os/new", tree, site.Canonical...)
	s.Link().At(600_000, func() { // half of what is new
		must.OSTree(t, "prune", "--refs-only", "--repo="+s.Prod)
	})
	r := s.Push(b)
	if r.Rounds == 0 || r.ObjectsSent <= 120 {
		t.Errorf("%d objects sent in %d more rounds: nothing was pruned", r.ObjectsSent, r.Rounds)
	}
	s.AtHead("os/new", commit)
	must.OSTree(t, "fsck", "--repo="+s.Prod)
}
