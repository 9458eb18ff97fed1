// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package system

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	"github.com/lirios/ostree-upload/internal/client"
	"github.com/lirios/ostree-upload/internal/push"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/server"
	"github.com/lirios/ostree-upload/test/site"
)

// A gate lets all through once each has come, or has given up.
type gate struct {
	mu      sync.Mutex
	waits   int
	through chan struct{}
}

func newGate(n int) *gate { return &gate{waits: n, through: make(chan struct{})} }

// pass returns a function that counts one participant, the first time that it is
// called.
func (g *gate) pass() func() {
	return sync.OnceFunc(func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.waits--; g.waits == 0 {
			close(g.through)
		}
	})
}

// rival pushes a repository's ref in this process. It goes on from its opened
// session when all rivals have one; a nil gate does not hold it.
func rival(t *testing.T, s *server.Server, repo, ref string, g *gate) error {
	opt := push.Options{Repo: repo, Server: client.Options{Address: s.URL, Token: s.Token}, Refs: []string{ref}, Depth: -1, Jobs: 1}
	if g != nil {
		arrive := g.pass()
		defer arrive()
		opt.OnSession = func(wire.Session, bool) {
			arrive()
			<-g.through
		}
	}
	_, err := push.Run(t.Context(), opt)
	return err
}

// Fifty times two builds push one ref at once, on top of what the last round
// published. Exactly one wins. The other is told: ref-moved if both had begun,
// else perhaps not-fast-forward.
func TestFiftyRaces(t *testing.T) {
	t.Parallel()
	const ref, rounds, free = "os/race", 50, 10
	s := server.Start(t, "archive")
	var repos [2]string
	tree := filepath.Join(t.TempDir(), "tree")
	head := ""
	for i := range repos {
		repos[i] = filepath.Join(t.TempDir(), "build")
		must.OSTree(t, "init", "--repo="+repos[i], "--mode=archive")
	}
	codes := map[string]int{}
	for round := range rounds {
		var g *gate
		if round >= free {
			g = newGate(len(repos))
		}
		var commits [2]string
		for i, repo := range repos {
			must.OK(t, site.WriteFile(filepath.Join(tree, "state"), []byte(fmt.Sprintln(round, i)), 0o644))
			parent := "none"
			if head != "" {
				parent = head
			}
			commits[i] = site.Commit(t, repo, "archive", ref, tree, "--parent="+parent)
		}
		var errs [2]error
		var wg sync.WaitGroup
		for i, repo := range repos {
			wg.Go(func() { errs[i] = rival(t, s, repo, ref, g) })
		}
		wg.Wait()
		winner := 0
		if errs[0] != nil {
			winner = 1
		}
		head = s.Ref(ref)
		if errs[winner] != nil || head != commits[winner] {
			t.Fatalf("round %d: %v and %v, the ref is at %s of %s", round, errs[0], errs[1], head, commits)
		}
		codes[loser(t, errs[1-winner], g != nil)]++
	}
	t.Logf("the losers were told: %v", codes)
}

// loser returns the code that the loser of a race was told.
func loser(t *testing.T, err error, both bool) string {
	t.Helper()
	var e *push.Error
	if !errors.As(err, &e) || e.Exit != push.ExitRefused || e.HintText == "" {
		t.Fatalf("the loser ended with %#v", err)
	}
	if e.Code != wire.RefMoved && (both || e.Code != wire.NotFastForward) {
		t.Fatalf("the loser was told %s: %v", e.Code, err)
	}
	return e.Code
}
