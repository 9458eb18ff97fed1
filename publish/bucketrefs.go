// SPDX-License-Identifier: AGPL-3.0-or-later

package publish

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/lirios/ostree-upload/internal/bucket"
	"github.com/lirios/ostree-upload/internal/fault"
	"github.com/lirios/ostree-upload/internal/mirror"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/journal"
)

// bucketMoves are the refs of a session, to be moved by compare-and-swap.
type bucketMoves struct {
	*bucketChange
	refs  []wire.Ref
	etags []string // of the refs as they were found; of a ref that is new, as it was written
	there []bool   // those that were found where they are to be
	moved []bool   // those that this process has moved
}

func (r *bucketChange) prepareRefs(s *journal.Session) (moves, error) {
	return &bucketMoves{bucketChange: r, refs: s.Refs, etags: make([]string, len(s.Refs)), there: make([]bool, len(s.Refs)), moved: make([]bool, len(s.Refs))}, nil
}

func (m *bucketMoves) drop() error { return nil }

// alone does nothing: nobody can be kept from moving a ref, and each moves only from where
// it was found.
func (m *bucketMoves) alone() (unlock func() error, err error) {
	return func() error { return nil }, nil
}

// apply compares all refs before it moves one. If somebody else then moves one of several
// before this does, those that have moved go back, unless they were moved on.
func (m *bucketMoves) apply(ctx context.Context) error {
	order := refOrder(m.refs)
	if err := m.each(ctx, order, m.compare); err != nil {
		return err
	}
	for len(order) > 0 {
		rank := rankOf(m.refs, order)
		if err := m.each(ctx, order[:rank], m.move); err != nil {
			return m.back(ctx, err)
		}
		order = order[rank:]
	}
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

// compare reads a ref, which has to be where the session found it or brings it.
func (m *bucketMoves) compare(ctx context.Context, i int) error {
	r := m.refs[i]
	is, etag, err := m.Ref(ctx, r.Ref)
	if err != nil {
		return err
	}
	if is != r.Old && is != r.New {
		return outcomef(wire.RefMoved, "ref %s is at %s, this push expected %s", r.Ref, orNone(is), orNone(r.Old))
	}
	m.etags[i], m.there[i] = etag, is == r.New
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
		err := fault.Point("move a ref", func() error { return m.swap(ctx, i) })
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
	return fmt.Errorf("ref %s changes all the time", r.Ref)
}

func (m *bucketMoves) swap(ctx context.Context, i int) (err error) {
	r, etag := m.refs[i], m.etags[i]
	if r.New == "" {
		if etag != "" {
			err = m.Bucket.Delete(ctx, mirror.RefKey(r.Ref), etag)
		}
		m.etags[i] = ""
	} else {
		etag, err = m.Bucket.Swap(ctx, mirror.RefKey(r.Ref), []byte(r.New+"\n"), etag)
	}
	if err != nil {
		return err
	}
	if r.New != "" {
		m.etags[i] = etag
	}
	m.moved[i] = true
	return nil
}

// back undoes what this process has moved if the refs of the session cannot all move. After
// another error than that somebody else moved one, the publish is tried again instead.
func (m *bucketMoves) back(ctx context.Context, why error) error {
	var refused *Outcome
	if !errors.As(why, &refused) {
		return why
	}
	for i, r := range m.refs {
		if !m.moved[i] {
			continue
		}
		err := fault.Point("move a ref back", func() (err error) {
			if r.Old == "" {
				return m.Bucket.Delete(ctx, mirror.RefKey(r.Ref), m.etags[i])
			}
			_, err = m.Bucket.Swap(ctx, mirror.RefKey(r.Ref), []byte(r.Old+"\n"), m.etags[i])
			return err
		})
		if errors.Is(err, bucket.ErrChanged) {
			m.cfg.Log.Warn("a ref of a session that could not move all of its refs was moved on by somebody else", "session", m.session.ID, "ref", r.Ref)
			continue
		}
		if err != nil {
			return fmt.Errorf("move ref %s back to %s, as not all refs of the session could move (%w): %w", r.Ref, orNone(r.Old), why, err)
		}
	}
	return why
}
