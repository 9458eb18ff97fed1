// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// A pruner runs ostree prune on a repository, again and again.
type pruner struct {
	between sync.Mutex // held while one runs
	runs    int
	deleted int // runs that took something away
	failed  error
	stop    chan struct{}
	done    sync.WaitGroup
}

func startPruner(repo string) *pruner {
	p := &pruner{stop: make(chan struct{})}
	p.done.Go(func() {
		for {
			select {
			case <-p.stop:
				return
			default:
			}
			p.between.Lock()
			out, err := exec.Command("ostree", "prune", "--refs-only", "--repo="+repo).CombinedOutput()
			if p.runs++; err != nil {
				p.failed = fmt.Errorf("ostree prune: %w\n%s", err, out)
			}
			if !strings.Contains(string(out), "No unreachable objects") {
				p.deleted++
			}
			p.between.Unlock()
		}
	})
	return p
}

func (p *pruner) end(t *testing.T) {
	t.Helper()
	close(p.stop)
	p.done.Wait()
	if p.failed != nil {
		t.Error(p.failed)
	}
	t.Logf("pruned %d times, %d times for something", p.runs, p.deleted)
	if p.deleted == 0 {
		t.Error("nothing was pruned")
	}
}

// paused runs f while no prune does: ostree fsck takes no lock, and would miss what
// is taken away under it.
func (p *pruner) paused(f func()) {
	p.between.Lock()
	defer p.between.Unlock()
	f()
}

// While prune takes away what deleted refs leave, each push ends with a complete
// commit, or with an error that says what to do. Several push at once: much of
// the time they wait for the repository's lock.
func TestPruneDuringPushes(t *testing.T) {
	t.Parallel()
	const workers, each = 5, 4
	s := newSite(t)
	p := startPruner(s.prod)
	defer p.end(t)
	var arrived atomic.Int64
	var wg sync.WaitGroup
	for w := range workers {
		tree, repo := filepath.Join(s.dir, fmt.Sprint("tree", w)), filepath.Join(s.dir, fmt.Sprint("build", w))
		check(t, smallTree(tree, 30, "prune")) // the same for all
		runOSTree(t, "init", "--repo="+repo, "--mode=archive")
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
func pushUnderPrune(s *site, p *pruner, repo, tree string, worker, i int) (arrived bool) {
	t, ref, passing := s.t, fmt.Sprint("os/stable", worker), i%2 == 1
	if passing {
		ref = fmt.Sprintf("os/nightly%d-%d", worker, i)
	}
	changed := filepath.Join(tree, "d0", fmt.Sprint("f", i))
	if err := writeFile(changed, randomBytes(rand.NewChaCha8([32]byte{byte(worker), byte(i)}), 9000), 0o644); err != nil {
		t.Error(err)
		return false
	}
	commit, err := ostreeCommand("commit", "--repo="+repo, "--branch="+ref, "--tree=dir="+tree)
	if err != nil {
		t.Error(err)
		return false
	}
	out, err := s.command("push", "--repo", repo, ref).CombinedOutput()
	if err != nil && !strings.Contains(string(out), "\nhint: ") {
		t.Errorf("push %d of %d ends with no hint: %v\n%s", i, worker, err, out)
	}
	p.paused(func() {
		if out, err := fsck(s.prod); err != nil {
			t.Errorf("after push %d of %d: %v\n%s", i, worker, err, out)
		}
		head, wrong := ostreeCommand("rev-parse", "--repo="+s.prod, ref)
		if arrived = err == nil; arrived && (wrong != nil || head != commit) {
			t.Errorf("%s is %s, want %s: %v", ref, head, commit, wrong)
		}
		if arrived && passing {
			// Nor does deleting a ref take a lock: prune fails if one goes while it
			// lists them.
			if _, err := ostreeCommand("refs", "--repo="+s.prod, "--delete", ref); err != nil {
				t.Error(err)
			}
		}
	})
	return arrived
}

// ostreeCommand is runOSTree for goroutines that must not end the test.
func ostreeCommand(args ...string) (string, error) {
	out, err := exec.Command("ostree", args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("ostree %s: %w\n%s", args[0], err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

// What prune removes after the server said that it has it is noticed before the
// ref moves, and sent by itself.
func TestPruneAfterNegotiation(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	b := &build{repo: filepath.Join(s.dir, "build")}
	tree := filepath.Join(s.dir, "tree")
	check(t, smallTree(tree, 60, "pruned"))
	commitIn(t, b.repo, "archive", "os/old", tree, canonical...)
	s.push(b)
	runOSTree(t, "refs", "--repo="+s.prod, "--delete", "os/old")
	runOSTree(t, "refs", "--repo="+b.repo, "--delete", "os/old")

	s.emptyStaging()
	check(t, smallTree(filepath.Join(tree, "more"), 60, "new"))
	commit := commitIn(t, b.repo, "archive", "os/new", tree, canonical...)
	s.link().At(600_000, func() { // half of what is new
		runOSTree(t, "prune", "--refs-only", "--repo="+s.prod)
	})
	r := s.push(b)
	if r.Rounds == 0 || r.ObjectsSent <= 120 {
		t.Errorf("%d objects sent in %d more rounds: nothing was pruned", r.ObjectsSent, r.Rounds)
	}
	s.atHead("os/new", commit)
	runOSTree(t, "fsck", "--repo="+s.prod)
}

// emptyStaging takes away the objects of sessions that have ended, as the server
// does from time to time: in staging they could stand in for what is missing.
func (s *site) emptyStaging() {
	s.t.Helper()
	files, err := filepath.Glob(filepath.Join(s.staged(), "*", "*"))
	check(s.t, err)
	for _, f := range files {
		check(s.t, os.Remove(f))
	}
}
