// SPDX-License-Identifier: AGPL-3.0-or-later

package site

import (
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"testing"
)

// A Pruner runs ostree prune on a repository, again and again.
type Pruner struct {
	between sync.Mutex // held while one runs
	runs    int
	deleted int // runs that took something away
	failed  error
	stop    chan struct{}
	done    sync.WaitGroup
}

// StartPruner starts one; it prunes until End.
func StartPruner(repo string) *Pruner {
	p := &Pruner{stop: make(chan struct{})}
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

// End stops it, and fails the test if a run failed or none found anything.
func (p *Pruner) End(t *testing.T) {
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

// Paused runs f while no prune does: ostree fsck takes no lock, and would miss what
// is taken away under it.
func (p *Pruner) Paused(f func()) {
	p.between.Lock()
	defer p.between.Unlock()
	f()
}
