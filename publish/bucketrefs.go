// SPDX-License-Identifier: AGPL-3.0-or-later

package publish

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lirios/ostree-upload/internal/bucket"
	"github.com/lirios/ostree-upload/internal/fault"
	"github.com/lirios/ostree-upload/internal/mirror"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/journal"
)

// bucketMoves are the refs of a session, to be moved by compare-and-swap. Those of one
// rank (ranks) move at the same time.
type bucketMoves struct {
	*bucketChange
	refs  []wire.Ref
	at    []bucket.Entry // the refs' objects as they were found
	there []bool         // those that need not move any more
	stay  []bool         // those that cannot go back
	went  []bool         // those that went back
}

func (r *bucketChange) prepareRefs(s *journal.Session) (moves, error) { return r.movesOf(s), nil }

func (r *bucketChange) movesOf(s *journal.Session) *bucketMoves {
	n := len(s.Refs)
	return &bucketMoves{r, s.Refs, make([]bucket.Entry, n), make([]bool, n), make([]bool, n), make([]bool, n)}
}

func (m *bucketMoves) drop() error { return nil }

// alone does nothing: nobody can be kept from moving a ref, and each moves only from where
// it was found.
func (m *bucketMoves) alone() (unlock func() error, err error) {
	return func() error { return nil }, nil
}

// apply compares all refs before it moves one. If somebody else then moves one of several
// before this does, the session is refused, and undo moves the others back.
func (m *bucketMoves) apply(ctx context.Context) error {
	order, rank := refOrder(m.refs), ranks(m.refs)
	if err := m.each(ctx, order, m.compare); err != nil {
		return err
	}
	for len(order) > 0 {
		if err := m.begin(rank(order[0])); err != nil {
			return err
		}
		n := rankOf(m.refs, order)
		if err := m.each(ctx, order[:n], m.move); err != nil {
			return err
		}
		order = order[n:]
	}
	m.half = false
	return nil
}

// errOldMark says that the mark of a publish may soon count no more, so that somebody may
// remove objects. It is tried again, with a new mark.
var errOldMark = errors.New("the publish took too long before its refs could move")

// begin records that the refs of a rank may have moved, before the first of them does: an
// answer may be lost, and the process with it.
func (m *bucketMoves) begin(rank int) error {
	if mirror.Since(m.marked) > mirror.MarkTime-time.Hour {
		return errOldMark
	}
	m.half = true
	if m.session.Begun > rank {
		return nil
	}
	s, err := m.cfg.Journal.Move(m.session.ID, journal.Publishing, func(s *journal.Session) { s.Begun = rank + 1 })
	if err != nil {
		return err
	}
	m.session = &s
	return nil
}

// each does something with some refs, several at a time. If that fails with one of them,
// the others are still done: a write that was cut off may have had its effect.
func (m *bucketMoves) each(ctx context.Context, refs []int, do func(context.Context, int) error) error {
	var g errgroup.Group
	g.SetLimit(mirror.Parallel)
	for _, i := range refs {
		g.Go(func() error { return do(ctx, i) })
	}
	return g.Wait()
}

// compare reads a ref, which has to be where the session found it or brings it, or to have
// been there by this session: then others have moved it on before its answer came.
func (m *bucketMoves) compare(ctx context.Context, i int) error {
	r := m.refs[i]
	is, at, err := m.Ref(ctx, r.Ref)
	if err != nil {
		return err
	}
	there := is == r.New || slices.Contains(writers(at), m.session.ID)
	if !there && is != r.Old {
		return refMoved(r, is)
	}
	m.at[i], m.there[i] = at, there
	return nil
}

// move moves a ref from where compare found it. One that is there already is not written
// again: perhaps it was another session that moved it, and not this one before a crash.
func (m *bucketMoves) move(ctx context.Context, i int) error {
	r := m.refs[i]
	for range mostSwaps {
		if m.there[i] {
			return nil
		}
		err := fault.Point("move a ref", func() error { return m.moveOn(ctx, r, m.at[i]) })
		if err == nil {
			return nil
		}
		if !errors.Is(err, bucket.ErrChanged) {
			return err
		}
		// Perhaps it was only written again, or a write of this session was not answered.
		if err := m.compare(ctx, i); err != nil {
			return err
		}
	}
	return changesAllTheTime(r.Ref)
}

func changesAllTheTime(ref string) error { return fmt.Errorf("ref %s changes all the time", ref) }

// moveOn moves a ref from where it was found, and notes with it that this session did.
func (m *bucketMoves) moveOn(ctx context.Context, r wire.Ref, at bucket.Entry) error {
	by := writers(at)
	by = append([]string{m.session.ID}, by[:min(len(by), mostWriters-1)]...)
	return m.set(ctx, r.Ref, r.New, at.ETag, by)
}

// set has a ref name a commit, or removes it for "", if it still has this ETag.
func (m *bucketMoves) set(ctx context.Context, ref, commit, etag string, by []string) error {
	switch {
	case commit != "":
		_, err := m.Bucket.SwapBy(ctx, strings.Join(by, ","), mirror.RefKey(ref), []byte(commit+"\n"), etag)
		return err
	case etag != "":
		return m.Bucket.Delete(ctx, mirror.RefKey(ref), etag)
	}
	return nil
}
