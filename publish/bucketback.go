// SPDX-License-Identifier: AGPL-3.0-or-later

package publish

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/lirios/ostree-upload/internal/bucket"
	"github.com/lirios/ostree-upload/internal/fault"
	"github.com/lirios/ostree-upload/internal/mirror"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/journal"
)

// undo asks the bucket where each ref is: what this process knows of its writes is not all
// that may have become of them.
func (b *inBucket) undo(ctx context.Context, s *journal.Session) (stay []string, err error) {
	if s.Begun == 0 {
		return nil, nil
	}
	c := &bucketChange{inBucket: b, session: s, half: true}
	unlock, err := c.lock(ctx)
	if err != nil {
		return nil, err
	}
	m := c.movesOf(s)
	err = m.back(ctx)
	c.half = err != nil
	if err == nil && slices.Contains(m.went, true) {
		b.untell(ctx, s)
	}
	for i, stays := range m.stay {
		if stays {
			stay = append(stay, s.Refs[i].Ref)
		}
	}
	return stay, errors.Join(err, unlock())
}

// untell writes the summary anew: when all refs had moved, others may have written one that
// shows them there.
func (b *inBucket) untell(ctx context.Context, s *journal.Session) {
	if _, err := b.summarize(ctx, s.ID); err != nil {
		b.cfg.Log.Warn("the summary may show refs where they were before they went back, until the next publish", "session", s.ID, "ref", s.RefList(), "err", err)
	}
}

// back moves back what may have moved, the last rank first.
func (m *bucketMoves) back(ctx context.Context) error {
	order, rank := refOrder(m.refs), ranks(m.refs)
	slices.Reverse(order)
	for len(order) > 0 {
		n := rankOf(m.refs, order)
		if rank(order[0]) < m.session.Begun {
			if err := m.each(ctx, order[:n], m.moveBack); err != nil {
				return err
			}
		}
		order = order[n:]
	}
	return nil
}

// moveBack moves one ref back if this session has moved it.
func (m *bucketMoves) moveBack(ctx context.Context, i int) error {
	r := m.refs[i]
	for range mostSwaps {
		is, at, err := m.Ref(ctx, r.Ref)
		if err != nil {
			return err
		}
		own, err := m.own(i, is, writers(at))
		if !own || err != nil {
			return err
		}
		if gone, err := m.isGone(ctx, i); gone || err != nil {
			return err
		}
		by := slices.DeleteFunc(writers(at), func(id string) bool { return id == m.session.ID })
		err = fault.Point("move a ref back", func() error { return m.set(ctx, r.Ref, r.Old, at.ETag, by) })
		if err == nil {
			m.went[i] = true
			return nil
		}
		if !errors.Is(err, bucket.ErrChanged) {
			return fmt.Errorf("move ref %s back to %s: %w", r.Ref, orNone(r.Old), err)
		}
	}
	return changesAllTheTime(r.Ref)
}

// own tells whether a ref is where it is by this session. Another one may have moved it to
// the same commit. If the store keeps no metadata, it is taken for this session's move.
func (m *bucketMoves) own(i int, is string, by []string) (bool, error) {
	r := m.refs[i]
	switch {
	case is == r.Old:
		return false, nil
	case is == "" && r.New == "":
		free, err := m.isFree(r.Ref)
		m.stay[i] = !free && err == nil
		return free, err
	case is == r.New && (len(by) == 0 || by[0] == m.session.ID):
		return true, nil
	}
	m.stay[i] = slices.Contains(by, m.session.ID)
	return false, nil
}

// isGone tells whether a ref has to stay as the commit is gone where it was: a mark of a
// server that was down for long has kept no prune from removing it. A prune removes a commit
// before what that needs.
func (m *bucketMoves) isGone(ctx context.Context, i int) (bool, error) {
	r := m.refs[i]
	if r.Old == "" {
		return false, nil
	}
	commit, err := ostree.ParseChecksum(r.Old)
	if err != nil {
		return false, err
	}
	_, err = m.Bucket.Head(ctx, mirror.Key(ostree.Name{Checksum: commit, Type: ostree.CommitObject}))
	if !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	m.stay[i] = true
	return true, nil
}

// isFree tells whether a ref that was deleted may be there again: others may have used its
// name for a folder meanwhile.
func (m *bucketMoves) isFree(ref string) (bool, error) {
	repo, err := m.read()
	if err != nil {
		return false, err
	}
	names, err := repo.RefNames()
	if err != nil {
		return false, err
	}
	for _, name := range names {
		if _, _, found := ostree.ConflictingRef([]string{name, ref}); found {
			m.cfg.Log.Warn("a deleted ref cannot be there again, as another one has its name in its own", "session", m.session.ID, "ref", ref, "other", name)
			return false, nil
		}
	}
	return true, nil
}

// mostWriters is how many sessions a ref's object names, the last first. S3 allows 2 KB.
const mostWriters = 40

// writers are the sessions that have moved a ref, as its object names them.
func writers(at bucket.Entry) []string {
	if at.By == "" {
		return nil
	}
	return strings.Split(at.By, ",")
}

// passed asks the ref's object: it names those who moved the ref.
func (b *inBucket) passed(s *journal.Session, r wire.Ref) (bool, error) {
	if s.Begun == 0 {
		return false, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), unmarkTime)
	defer cancel()
	_, at, err := b.Ref(ctx, r.Ref)
	return slices.Contains(writers(at), s.ID), err
}
