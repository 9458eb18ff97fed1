// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package crash

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/journal"
	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/server"
	"github.com/lirios/ostree-upload/test/site"
)

// The janitor cleans without a pause while several clients push commits that
// share most objects, and abort sessions or let them expire whose objects
// others rely on. Each push is published at the first finalize, nothing that an
// open session counts as staged is gone, and in the end nothing is left.
func TestJanitor(t *testing.T) {
	t.Parallel()
	h := &household{s: server.Start(t, "archive"), build: filepath.Join(t.TempDir(), "build"), random: site.Seed(t)}
	rounds := 3
	if site.Full() {
		rounds = 40
	}
	over := make(chan struct{})
	var working errgroup.Group
	working.Go(func() error { return h.janitor(over) })
	working.Go(func() error { return h.watch(over) })
	for round := range rounds {
		commits := h.commits(t, round)
		t.Run(fmt.Sprint("round ", round), func(t *testing.T) {
			for i, c := range commits {
				p := &pusher{household: h, ref: fmt.Sprint("os/p", i), commit: c, random: rand.New(rand.NewPCG(h.random.Uint64(), 0))}
				t.Run(p.ref, func(t *testing.T) {
					t.Parallel()
					p.t, p.c = t, h.s.Client(h.s.Token).In(t)
					p.push()
				})
			}
		})
	}
	close(over)
	must.OK(t, working.Wait())
	deleting := h.deleting
	t.Logf("%d of %d passes of the janitor deleted; %d looks at sessions", deleting, h.passes, h.looks)
	if deleting == 0 || h.looks == 0 {
		t.Error("that proves nothing")
	}
	h.empty(t)
}

// A household is a server with a janitor, and what is pushed to it.
type household struct {
	s      *server.Server
	build  string
	random *rand.Rand

	deleting int // rounds of the janitor that took something away
	passes   int // of the janitor
	looks    int // of the watcher, at a session with staged objects
}

// commits makes one for each of four refs: they share all files but one.
func (h *household) commits(t *testing.T, round int) (commits []ostree.Checksum) {
	t.Helper()
	tree := t.TempDir()
	for i := range 300 {
		must.OK(t, site.WriteFile(filepath.Join(tree, fmt.Sprint("d", i%20), fmt.Sprint("f", i)), []byte(fmt.Sprintln(round, i)), 0o644))
	}
	for i := range 4 {
		must.OK(t, site.WriteFile(filepath.Join(tree, "own"), []byte(fmt.Sprintln(round, i)), 0o644))
		c, err := ostree.ParseChecksum(site.Commit(t, h.build, "archive", fmt.Sprint("os/p", i), tree, site.Canonical...))
		must.OK(t, err)
		commits = append(commits, c)
	}
	return commits
}

// janitor does the server's round of cleaning again and again.
func (h *household) janitor(over chan struct{}) error {
	for ; ; h.passes++ {
		select {
		case <-over:
			return nil
		default:
		}
		done, err := h.s.Clean(context.Background())
		if err != nil {
			return err
		}
		if done.Objects > 0 {
			h.deleting++
		}
	}
}

// watch looks again and again whether what sessions count as staged is there.
func (h *household) watch(over chan struct{}) error {
	for {
		select {
		case <-over:
			return nil
		default:
		}
		sessions, err := h.s.Journal.Sessions(alive)
		if err != nil {
			return err
		}
		for _, s := range sessions {
			if err := h.look(s.ID); err != nil {
				return err
			}
		}
	}
}

func alive(s *journal.Session) bool { return !s.State.Final() }

// look fails if an object that a session counts as staged is gone, unless the
// session has ended meanwhile.
func (h *household) look(session string) error {
	var staged []ostree.Name
	err := h.s.Journal.Each(session, func(n ostree.Name, s journal.Status) error {
		if s == journal.Staged && n.Type != ostree.CommitMeta {
			staged = append(staged, n)
		}
		return nil
	})
	if err != nil || len(staged) == 0 {
		return err
	}
	h.looks++
	for _, n := range staged {
		there, err := h.s.Store.Has(n)
		if err != nil || there {
			continue
		}
		now, err := h.s.Journal.Session(session)
		if err != nil {
			return err
		}
		if alive(&now) {
			return fmt.Errorf("session %s is %s and counts on %s, which is gone", session, now.State, n)
		}
		return nil
	}
	return nil
}

// empty checks that cleaning leaves nothing when all sessions are over: one
// round ends them, the next one forgets them.
func (h *household) empty(t *testing.T) {
	t.Helper()
	sessions, err := h.s.Journal.Sessions(alive)
	must.OK(t, err)
	for _, s := range sessions {
		h.expire(t, s.ID)
	}
	h.s.Change(func(c *config.Config) { c.History = 0 })
	for range 2 {
		_, err := h.s.Clean(t.Context())
		must.OK(t, err)
	}
	for _, pattern := range []string{"staged/objects/*/*", "uploads/*"} {
		left, err := filepath.Glob(filepath.Join(h.s.State, pattern))
		must.OK(t, err)
		if len(left) > 0 {
			t.Errorf("%d of %s are left", len(left), pattern)
		}
	}
	if left, err := h.s.Journal.Sessions(nil); err != nil || len(left) > 0 {
		t.Errorf("%d of %d sessions are left: %v", len(left), len(sessions), err)
	}
}

// expire makes a session's time be over.
func (h *household) expire(t *testing.T, session string) {
	t.Helper()
	_, err := h.s.Journal.Move(session, journal.Open, func(s *journal.Session) { s.Expires = s.Created.Add(-time.Hour) })
	must.OK(t, err)
}

// A pusher pushes one commit to one ref.
type pusher struct {
	*household
	t      *testing.T
	c      *server.Client
	ref    string
	commit ostree.Checksum
	random *rand.Rand
}

// push begins a session, brings a part, and ends it while another one relies on
// what is staged by then, which goes on to its end.
func (p *pusher) push() {
	names := server.Objects(p.t, p.build, p.commit)
	move := wire.Ref{Ref: p.ref, Old: p.s.Ref(p.ref), New: p.commit.String()}
	first, second := p.c.Open(move).ID, p.c.Open(move).ID
	if lacking := p.c.Negotiate(first, names...); len(lacking) > 0 {
		p.c.Upload(first, "part", server.Pack(p.t, p.build, lacking[:1+p.random.IntN(len(lacking))]...))
		p.c.Negotiate(first, names[0]) // waits for the ingest
	}
	var ending errgroup.Group
	ending.Go(func() error { p.end(first); return nil })
	lacking := p.c.Negotiate(second, names...)
	must.OK(p.t, ending.Wait())
	for i, part := 0, lacking; len(part) > 0; i++ {
		n := 1 + p.random.IntN(len(part))
		p.c.Upload(second, fmt.Sprint("pack-", i), server.Pack(p.t, p.build, part[:n]...))
		part = part[n:]
	}
	if s := p.c.Finalize(second); s.State != wire.Published || p.s.Ref(p.ref) != move.New {
		p.t.Errorf("the session is %s, error %q: %s, %d problems", s.State, s.Error, s.Detail, len(s.Problems))
	}
}

// end aborts a session, has it expire, or leaves it alone.
func (p *pusher) end(session string) {
	switch p.random.IntN(3) {
	case 0:
		p.c.Want(200, "DELETE", "/api/v1/sessions/"+session, nil)
	case 1:
		p.expire(p.t, session)
	}
}
