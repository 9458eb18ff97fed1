// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package system

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/site"
)

// The server prunes in a loop while several push. Files come, go and come again, so
// that a push is told that the server has what a prune is about to take away. Nothing
// that a push was told of is asked for again, each push succeeds, and the repository
// is whole after each. With CRASH=full there are 50 pushes.
func TestRetentionDuringPushes(t *testing.T) {
	t.Parallel()
	workers, each := 2, 6
	if site.Full() {
		each = 25
	}
	s := site.New(t)
	keep := filepath.Join(s.Dir, "keep.yaml")
	must.OK(t, os.WriteFile(keep, []byte(`keep: [{refs: ["os/**"], depth: 0}]`+"\n"), 0o600))
	p := s.StartPruner(keep)
	t.Run("pushes", func(t *testing.T) {
		for w := range workers {
			ref := fmt.Sprint("os/x", w)
			t.Run(ref, func(t *testing.T) {
				t.Parallel()
				b := &site.Build{Repo: filepath.Join(s.Dir, "build-"+ref[3:]), Ref: ref}
				for i := range each {
					pushBesidePrune(t, s, p, b, i)
				}
			})
		}
	})
	p.End(t)
	must.OSTree(t, "fsck", "--repo="+s.Prod)
	for w := range workers {
		log := must.OSTree(t, "log", "--repo="+s.Prod, fmt.Sprint("os/x", w))
		if strings.Count("\n"+log, "\ncommit ") == each {
			t.Errorf("os/x%d has all of its history", w)
		}
	}
}

// pushBesidePrune pushes a tree whose files were in the push before the last one, and a
// large one, which takes the time in which a prune may come.
func pushBesidePrune(t *testing.T, s *site.Site, p *site.Pruner, b *site.Build, i int) {
	t.Helper()
	tree := filepath.Join(t.TempDir(), "tree")
	must.OK(t, site.SmallTree(tree, 40, fmt.Sprint("state ", i%2)))
	own := sha256.Sum256(fmt.Append(nil, b.Ref, i))
	must.OK(t, site.WriteFile(filepath.Join(tree, "own"), site.RandomBytes(rand.NewChaCha8(own), 300_000), 0o644))
	b.Commit = site.Commit(t, b.Repo, "archive", b.Ref, tree)
	r := site.Finish(t, s.Command("push", "--json", "--limit-rate", "1MB", "--repo", b.Repo, b.Ref)).Must(t, 0).Result(t)
	if r.Rounds > 0 {
		t.Errorf("push %d: %d more rounds: what it was told of is gone", i, r.Rounds)
	}
	p.Paused(func() {
		if head := must.OSTree(t, "rev-parse", "--repo="+s.Prod, b.Ref); head != b.Commit {
			t.Errorf("push %d: %s is %s, want %s", i, b.Ref, head, b.Commit)
		}
		if out, err := site.Fsck(s.Prod); err != nil {
			t.Errorf("push %d: %v\n%s", i, err, out)
		}
	})
}
