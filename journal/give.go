// SPDX-License-Identifier: AGPL-3.0-or-later

package journal

import (
	"bytes"
	"errors"

	"go.etcd.io/bbolt"
)

// Give records that a session belongs to the token of this name from now on. Giving it
// to the one that has it changes nothing.
func (j *Journal) Give(id, token string) (s Session, err error) {
	err = j.update(func(tx *bbolt.Tx) error {
		var r record
		if r, s, err = readWhole(tx, id); err != nil {
			return err
		}
		if r.Token == token {
			return errUnchanged
		}
		return give(tx, id, &r, &s, token)
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
