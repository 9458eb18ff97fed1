// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package system

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/link"
	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/site"
)

// A push of a commit and its parent was killed when the server had the parent's
// commit object and a part of its tree, and the next push does not send the
// parent: the session can never be whole. The push ends well without a person,
// in another session, and sends nothing twice.
func TestParentNoLongerPushed(t *testing.T) {
	t.Parallel()
	const ref, size, parents, children = "os/stray", 100_000, 300, 100
	prune := func(repo, _ string) []string {
		must.OSTree(t, "prune", "--refs-only", "--depth=0", "--repo="+repo)
		return nil
	}
	for name, next := range map[string]func(repo, session string) []string{
		"pruned":  prune,
		"depth":   func(string, string) []string { return []string{"--depth", "0"} },
		"resumed": func(repo, session string) []string { return append(prune(repo, ""), "--resume", session) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := site.New(t)
			b := &site.Build{Repo: filepath.Join(s.Dir, "build")}
			var commits []string
			for i, files := range []int{parents, children} {
				tree := filepath.Join(s.Dir, fmt.Sprint("tree", i))
				random := rand.NewChaCha8([32]byte{byte(i)})
				for f := range files {
					must.OK(t, site.WriteFile(filepath.Join(tree, fmt.Sprint(f)), site.RandomBytes(random, size), 0o644))
				}
				commits = append(commits, site.Commit(t, b.Repo, "archive", ref, tree))
			}
			l := s.Link()
			l.Set(link.Faults{Rate: 20 << 20})
			if out, err := site.RunKilled(s.Command("push", "--repo", b.Repo, "--jobs", "2"), l, size*(parents+children)*7/10); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			killed, before := s.OpenSession(), l.Delivered()
			args := append([]string{"push", "--json", "--repo", b.Repo, "--jobs", "2"}, next(b.Repo, killed.ID)...)
			e := s.Run(args...).Must(t, 0)
			r := e.Result(t)
			s.AtHead(ref, commits[1])
			holds(t, s.Prod, commits, false, true)
			if r.Session.ID == killed.ID {
				t.Error("it was published in the session of the whole history: the test shows nothing")
			}
			for _, id := range []string{killed.ID, r.Session.ID} {
				if !strings.Contains(e.Stderr, id) {
					t.Errorf("it does not name session %s: %s", id, e.Stderr)
				}
			}
			if open := s.Sessions(wire.Open); len(open) != 0 {
				t.Errorf("%d sessions are open", len(open))
			}
			t.Logf("%d bytes delivered, then %d", before, l.Delivered()-before)
			// Of each connection the object that was cut, and negotiation.
			if again := l.Delivered() - before; again > site.CutJobs*size+site.Chatter {
				t.Errorf("%d bytes delivered after %d", again, before)
			}
		})
	}
}
