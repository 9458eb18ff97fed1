// SPDX-License-Identifier: AGPL-3.0-or-later

package journal

import (
	"bytes"
	"errors"
	"time"

	"go.etcd.io/bbolt"

	"github.com/lirios/ostree-upload/internal/wire"
)

// maxHanded is how many of the times that it went to another token a session remembers.
const maxHanded = 10

// Give records that a session of one token belongs to another from now on, and who did
// that, by their names. The error is a *StateError if it has ended. Giving it to the one that has it changes nothing. One that is a third one's by
// now is not found: of two that would have it, the first gets it.
func (j *Journal) Give(id, from, token, by string) (s Session, err error) {
	handed := wire.Handed{From: from, To: token, By: by, At: j.clock().Truncate(time.Second)}
	err = j.update(func(tx *bbolt.Tx) error {
		var r record
		if r, s, err = readWhole(tx, id); err != nil {
			return err
		}
		switch r.Token {
		case token:
			return errUnchanged
		case from:
			if r.State.Final() {
				return &StateError{ID: id, From: r.State}
			}
			r.Handed = append(r.Handed[max(0, len(r.Handed)-maxHanded+1):], handed)
			s.Handed = r.Handed
			return give(tx, id, &r, &s, token)
		}
		return ErrNotFound
	})
	return s, err
}

// give moves a session from one token's part of the indexes to another's.
func give(tx *bbolt.Tx, id string, r *record, s *Session, token string) error {
	refs := tx.Bucket(refsBucket)
	kept := refs.Get(ownKey(id, r))
	err := tx.Bucket(ownBucket).Delete(ownKey(id, r))
	if err == nil && kept != nil {
		kept = bytes.Clone(kept)
		err = refs.Delete(ownKey(id, r))
	}
	if err != nil {
		return err
	}
	r.Token, s.Token = token, token
	if kept != nil {
		if err := refs.Put(ownKey(id, r), kept); err != nil {
			return err
		}
	}
	return errors.Join(list(tx, id, r), r.write(tx, id))
}
