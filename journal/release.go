// SPDX-License-Identifier: AGPL-3.0-or-later

package journal

import (
	"errors"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/lirios/ostree-upload/internal/wire"
)

// Release drops what a session that has ended no longer needs: its object set,
// uploads and detached metadata, and problems beyond those listed. State,
// counts, the listed problems and, of a published session, the refs stay. Releasing twice is not an error. *StateError if the
// session has not ended. One transaction does it: it frees pages and rewrites
// none, some milliseconds for 1,000,000 objects.
func (j *Journal) Release(id string) error {
	err := j.update(func(tx *bbolt.Tx) error {
		r, err := readRecord(tx, id)
		if err != nil {
			return err
		}
		if !r.State.Final() {
			return &StateError{ID: id, From: r.State}
		}
		err = tx.Bucket(setsBucket).DeleteBucket([]byte(id))
		if errors.Is(err, berrors.ErrBucketNotFound) {
			return errUnchanged
		}
		if err != nil {
			return err
		}
		if r.State != Published {
			if err := tx.Bucket(refsBucket).Delete(ownKey(id, &r)); err != nil {
				return err
			}
		}
		return keepListed(tx, id)
	})
	if err == nil {
		j.dropIndex(id)
	}
	return err
}

// keepListed drops the problems of a session that its document does not list.
func keepListed(tx *bbolt.Tx, id string) error {
	listed := readProblems(tx, id, wire.MaxProblems)
	if len(listed) < wire.MaxProblems {
		return nil
	}
	all := tx.Bucket(problemsBucket)
	if err := all.DeleteBucket([]byte(id)); err != nil {
		return err
	}
	b, err := all.CreateBucket([]byte(id))
	if err != nil {
		return err
	}
	p := problems{bucket: b}
	for _, problem := range listed {
		if err := p.add(problem); err != nil {
			return err
		}
	}
	return nil
}

// Trim forgets the sessions that ended before a time, and tells how many.
func (j *Journal) Trim(before time.Time) (int, error) {
	old, err := j.Sessions(func(s *Session) bool {
		return s.State.Final() && s.Updated.Before(before)
	})
	if err != nil {
		return 0, err
	}
	for n, s := range old {
		if err := j.forget(s.ID); err != nil {
			return n, err
		}
	}
	return len(old), nil
}

// forget drops all of a session that has ended.
func (j *Journal) forget(id string) error {
	if err := j.Release(id); err != nil {
		return err
	}
	err := j.update(func(tx *bbolt.Tx) error {
		r, err := readRecord(tx, id)
		if err != nil {
			return err
		}
		return j.drop(tx, id, &r)
	})
	if err == nil {
		j.wake(id)
	}
	return err
}

// drop is forget, within a transaction, for one that was released.
func (j *Journal) drop(tx *bbolt.Tx, id string, r *record) error {
	j.counted(r.State, -1)
	return errors.Join(
		forgetMoves(tx, id, r),
		tx.Bucket(newestBucket).Delete(newestKey(id, r)),
		tx.Bucket(ownBucket).Delete(ownKey(id, r)),
		tx.Bucket(refsBucket).Delete(ownKey(id, r)),
		tx.Bucket(sessionsBucket).Delete([]byte(id)),
		tx.Bucket(countsBucket).Delete([]byte(id)),
		tx.Bucket(problemsBucket).DeleteBucket([]byte(id)),
	)
}
