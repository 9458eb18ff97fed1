// SPDX-License-Identifier: AGPL-3.0-or-later

package journal

import "go.etcd.io/bbolt"

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
		r.Token, s.Token = token, token
		return r.write(tx, id)
	})
	return s, err
}
