// SPDX-License-Identifier: AGPL-3.0-or-later

package publish_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/journal"
	"github.com/lirios/ostree-upload/publish"
	"github.com/lirios/ostree-upload/test/must"
)

// turns is a publisher of sessions that are verifying, which lead nowhere: it has to
// tell only in which order they are handled.
type turns struct {
	*publish.Publisher
	journal *journal.Journal
	refs    map[string]string // by session
	handled func()            // called when one is handled
}

func newTurns(t *testing.T, ready func(ctx context.Context, ref string) error, refs ...string) *turns {
	t.Helper()
	j, err := journal.OpenFile(filepath.Join(t.TempDir(), "journal.db"))
	must.OK(t, err)
	t.Cleanup(func() { must.OK(t, j.Close()) })
	p := &turns{journal: j, refs: make(map[string]string), handled: func() {}}
	for _, ref := range refs { // the token's name is the first letter
		s, err := j.Create(journal.Session{Refs: []wire.Ref{{Ref: ref}}, Token: ref[:1]}, time.Hour)
		must.OK(t, err)
		_, err = j.Move(s.ID, journal.Verifying, nil)
		must.OK(t, err)
		p.refs[s.ID] = ref
	}
	p.Publisher = publish.New(publish.Config{
		Journal: j, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
		Repo:   filepath.Join(t.TempDir(), "none"),
		Ready:  func(ctx context.Context, session string) error { return ready(ctx, p.refs[session]) },
		Forget: func(string, ostree.Name) error { return nil },
		Hold: func() (release func()) {
			p.handled()
			return func() {}
		},
	})
	return p
}

// ended lists the sessions that are handled, in the order in which that was.
func (p *turns) ended(t *testing.T) (refs []string) {
	t.Helper()
	list, err := p.journal.Sessions(func(s *journal.Session) bool { return s.State == journal.Open })
	must.OK(t, err)
	slices.SortFunc(list, func(a, b journal.Session) int { return a.Updated.Compare(b.Updated) })
	for _, s := range list {
		refs = append(refs, p.refs[s.ID])
	}
	return refs
}

// However many sessions one token has finalized, another waits for one of them. Its own
// is the newest here, and all are ingested when the first is handled.
func TestTokensTakeTurns(t *testing.T) {
	refs := make([]string, 30)
	for i := range refs {
		refs[i] = fmt.Sprintf("a%d", i)
	}
	ingested := make(chan struct{})
	p := newTurns(t, func(_ context.Context, ref string) error {
		if ref == "b" {
			close(ingested)
		}
		<-ingested
		return nil
	}, append(refs, "b")...)
	p.handled = sync.OnceFunc(func() {
		must.Wait(t, "the others are ingested", func() bool { return p.Awaited() == len(refs) })
	})
	must.OK(t, p.Finish(t.Context()))
	order := p.ended(t)
	if at := slices.Index(order, "b"); len(order) != 31 || at > 1 {
		t.Errorf("handled in this order: %q", order)
	}
}

// A session whose uploads take long to be ingested holds up no other, not of its own
// token either, and a stop does not wait for it.
func TestUploadsAreAwaitedBeside(t *testing.T) {
	stopped := make(chan error, 1)
	p := newTurns(t, func(ctx context.Context, ref string) error {
		if ref != "a1" {
			return nil
		}
		<-ctx.Done()
		stopped <- ctx.Err()
		return ctx.Err()
	}, "a1", "a2", "b1")
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	must.Wait(t, "the others are handled", func() bool { return len(p.ended(t)) == 2 })
	stop()
	must.OK(t, <-done)
	if err := <-stopped; !errors.Is(err, context.Canceled) {
		t.Errorf("the wait ended by %v", err)
	}
}
