// SPDX-License-Identifier: AGPL-3.0-or-later

package site

import (
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"testing"
)

// A Pruner prunes a repository, again and again.
type Pruner struct {
	command func() *exec.Cmd
	nothing string // what it says when there is nothing to take away

	between sync.Mutex // held while one runs
	runs    int
	deleted int // runs that took something away
	failed  error
	stop    chan struct{}
	done    sync.WaitGroup
}

// StartPruner starts one that runs ostree prune; it prunes until End.
func StartPruner(repo string) *Pruner {
	return startPruner("No unreachable objects", func() *exec.Cmd {
		return exec.Command("ostree", "prune", "--refs-only", "--repo="+repo)
	})
}

// StartPruner starts one that runs ostree-upload prune with a configuration.
func (s *Site) StartPruner(config string) *Pruner {
	return startPruner("removed nothing", func() *exec.Cmd {
		return s.Command("prune", "--repo", s.Prod, "--config", config)
	})
}

func startPruner(nothing string, command func() *exec.Cmd) *Pruner {
	p := &Pruner{command: command, nothing: nothing, stop: make(chan struct{})}
	p.done.Go(func() {
		for {
			select {
			case <-p.stop:
				return
			default:
				p.once()
			}
		}
	})
	return p
}

// once runs one.
func (p *Pruner) once() {
	p.between.Lock()
	defer p.between.Unlock()
	out, err := p.command().CombinedOutput()
	if p.runs++; err != nil {
		p.failed = fmt.Errorf("prune: %w\n%s", err, out)
	}
	if !strings.Contains(string(out), p.nothing) {
		p.deleted++
	}
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
