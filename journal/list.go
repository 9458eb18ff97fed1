// SPDX-License-Identifier: AGPL-3.0-or-later

package journal

import (
	"bytes"
	"slices"
	"strings"

	"go.etcd.io/bbolt"
)

// lookedAt is how many sessions one List reads at most, so that a search for what
// there is little of does not read the whole history.
const lookedAt = 10_000

// Query says which sessions are listed.
type Query struct {
	Token  string // opened by a token of this name; "": by any
	State  State  // "": in any
	Live   bool   // only those that have not ended
	Moves  string // for exactly these; "": for any
	Before string // older than the session of this ID; "": from the newest on
	Limit  int    // at most so many
}

// List gives a page of sessions, newest first, without problems. If there may be
// more, next is what Before has to be for them; a page that is not full may have a
// next, too. An unknown Before is ErrNotFound.
func (j *Journal) List(q Query) (page []Session, next string, err error) {
	err = j.view(func(tx *bbolt.Tx) error {
		ids, err := q.candidates(tx)
		if err != nil {
			return err
		}
		for n, id := range ids {
			if len(page) == q.Limit || n == lookedAt {
				next = ids[n-1]
				return nil
			}
			s, err := readSession(tx, id)
			if err != nil {
				return err
			}
			if (q.State == "" || s.State == q.State) && !(q.Live && s.State.Final()) && (q.Moves == "" || s.Moves == q.Moves) {
				page = append(page, s)
			}
		}
		return nil
	})
	return page, next, err
}

// candidates are the sessions among which those asked for are, newest first: more
// than List reads if there are more.
func (q *Query) candidates(tx *bbolt.Tx) ([]string, error) {
	var before []byte
	if q.Before != "" {
		r, err := readRecord(tx, q.Before)
		if err != nil {
			return nil, err
		}
		before = newestKey(q.Before, &r)
	}
	if q.Live || q.State != "" && q.State.known() && !q.State.Final() {
		return liveIDs(tx, q.Token, before)
	}
	bucket, prefix := newestBucket, []byte(nil)
	if q.Token != "" {
		bucket, prefix = ownBucket, ownPrefix(q.Token)
	}
	return backwards(tx.Bucket(bucket), prefix, before), nil
}

// backwards lists the sessions of an index that are older than before, from the
// newest on, up to one more than List reads.
func backwards(b *bbolt.Bucket, prefix, before []byte) (ids []string) {
	end := slices.Concat(prefix, before)
	if before == nil {
		end = append(end, bytes.Repeat([]byte{0xff}, 9)...)
	}
	c := b.Cursor()
	k, _ := c.Seek(end)
	if k == nil {
		k, _ = c.Last()
	} else {
		k, _ = c.Prev()
	}
	for ; k != nil && bytes.HasPrefix(k, prefix) && len(ids) <= lookedAt; k, _ = c.Prev() {
		ids = append(ids, idOf(k, prefix))
	}
	return ids
}

// keysOf lists the sessions of an index that have a prefix, oldest first.
func keysOf(b *bbolt.Bucket, prefix []byte) (ids []string) {
	c := b.Cursor()
	for k, _ := c.Seek(prefix); k != nil && bytes.HasPrefix(k, prefix); k, _ = c.Next() {
		ids = append(ids, idOf(k, prefix))
	}
	return ids
}

// liveIDs lists the sessions that have not ended, of a token or of all, that are
// older than before, newest first.
func liveIDs(tx *bbolt.Tx, token string, before []byte) ([]string, error) {
	var keys []string
	err := tx.Bucket(liveBucket).ForEach(func(id, owner []byte) error {
		if token != "" && string(owner) != token {
			return nil
		}
		r, err := readRecord(tx, string(id))
		if key := newestKey(string(id), &r); err == nil && (before == nil || bytes.Compare(key, before) < 0) {
			keys = append(keys, string(key))
		}
		return err
	})
	slices.SortFunc(keys, func(a, b string) int { return strings.Compare(b, a) })
	for i, k := range keys {
		keys[i] = idOf([]byte(k), nil)
	}
	return keys, err
}

// Sessions lists the sessions that keep holds true for, newest first and without
// problems; nil keeps all. It reads the whole history.
func (j *Journal) Sessions(keep func(*Session) bool) (list []Session, err error) {
	err = j.view(func(tx *bbolt.Tx) (err error) {
		c := tx.Bucket(newestBucket).Cursor()
		for k, _ := c.Last(); k != nil; k, _ = c.Prev() {
			if list, err = appendKept(list, tx, idOf(k, nil), keep); err != nil {
				return err
			}
		}
		return nil
	})
	return list, err
}

// Live is Sessions for those that have not ended: it does not read the history.
func (j *Journal) Live(keep func(*Session) bool) (list []Session, err error) {
	err = j.view(func(tx *bbolt.Tx) error {
		ids, err := liveIDs(tx, "", nil)
		if err != nil {
			return err
		}
		for _, id := range ids {
			if list, err = appendKept(list, tx, id, keep); err != nil {
				return err
			}
		}
		return nil
	})
	return list, err
}

// appendKept reads a session and appends it if keep holds true for it.
func appendKept(list []Session, tx *bbolt.Tx, id string, keep func(*Session) bool) ([]Session, error) {
	s, err := readSession(tx, id)
	if err == nil && (keep == nil || keep(&s)) {
		list = append(list, s)
	}
	return list, err
}

// Share is what a token has in use.
type Share struct {
	Sessions int // that have not ended
	Refs     int // of those
}

// ShareOf adds up what the sessions of a token take.
func (j *Journal) ShareOf(token string) (share Share, err error) {
	err = j.view(func(tx *bbolt.Tx) error {
		return tx.Bucket(liveBucket).ForEach(func(id, owner []byte) error {
			if string(owner) != token {
				return nil
			}
			r, err := readRecord(tx, string(id))
			share.Sessions, share.Refs = share.Sessions+1, share.Refs+r.Count
			return err
		})
	})
	return share, err
}
