// SPDX-License-Identifier: AGPL-3.0-or-later

package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.etcd.io/bbolt"

	"github.com/lirios/ostree-upload/internal/ostree"
)

// What refs went through is kept by ref, so that it is found however many sessions there
// were. The entry of a ref lasts as long as its session is remembered, and goes earlier
// only if a token has too many.

// RefMove is a move of a ref by a session that was published.
type RefMove struct {
	Ref            string
	Old, New       string // commits; "" if there was none, or the ref was deleted
	Token, Session string
	By             string    // name of the token that had it published, if it was held
	At             time.Time // of the publish
	Force, Promote bool
	Back           bool  // with Promote: the ref had New before, as far as is remembered
	Bytes          int64 // of objects that the session brought, for all of its refs; only in a Log
}

// mostMoves is how many moves of a token's sessions are kept. Each takes some 250 bytes.
var mostMoves uint64 = 500_000

// The value of an entry is a byte of flags, both commits, zeros for none, and the token;
// after a NUL, By if there is one.
const (
	flagForce   = 1
	flagPromote = 2
	flagBack    = 4
	moveHead    = 1 + 2*len(ostree.Checksum{})
)

func movePrefix(ref string) []byte { return append([]byte(ref), 0) }

// moveKey leads to the move of a ref by a session that was published at a time.
func moveKey(ref string, at []byte, id string) []byte {
	return slices.Concat(movePrefix(ref), at, []byte(id))
}

func (m *RefMove) value() ([]byte, error) {
	b := make([]byte, 1, moveHead+len(m.Token))
	if m.Force {
		b[0] |= flagForce
	}
	if m.Promote {
		b[0] |= flagPromote
	}
	if m.Back {
		b[0] |= flagBack
	}
	for _, commit := range []string{m.Old, m.New} {
		var c ostree.Checksum
		var err error
		if commit != "" {
			c, err = ostree.ParseChecksum(commit)
		}
		if err != nil {
			return nil, fmt.Errorf("ref %s of session %s: %w", m.Ref, m.Session, err)
		}
		b = append(b, c[:]...)
	}
	b = append(b, m.Token...)
	if m.By != "" {
		b = append(append(b, 0), m.By...)
	}
	return b, nil
}

// readMove reads an entry of a ref.
func readMove(ref string, k, v []byte) (m RefMove, err error) {
	k = k[len(ref)+1:]
	if len(k) <= 8 || len(v) < moveHead {
		return m, fmt.Errorf("ref %s: a move has %d and %d bytes", ref, len(k), len(v))
	}
	who, by, _ := strings.Cut(string(v[moveHead:]), "\x00")
	m = RefMove{
		Ref: ref, Session: string(k[8:]), Token: who, By: by,
		At:    time.Unix(0, int64(binary.BigEndian.Uint64(k))).UTC(), // #nosec G115 -- as it was written
		Force: v[0]&flagForce != 0, Promote: v[0]&flagPromote != 0, Back: v[0]&flagBack != 0,
	}
	m.Old, m.New = commitOf(v[1:]), commitOf(v[1+len(ostree.Checksum{}):])
	return m, nil
}

func commitOf(b []byte) string {
	c := ostree.Checksum(b[:len(ostree.Checksum{})])
	if c == (ostree.Checksum{}) {
		return ""
	}
	return c.String()
}

// recordMoves records the moves of a session that is published now. Refs that stay where
// they are have not moved.
func recordMoves(tx *bbolt.Tx, s *Session) error {
	at := binary.BigEndian.AppendUint64(nil, uint64(s.Updated.UnixNano())) // #nosec G115 -- a time of this century
	var names []string
	for _, r := range s.Refs {
		if r.Old == r.New {
			continue
		}
		names = append(names, r.Ref)
		m := RefMove{Ref: r.Ref, Old: r.Old, New: r.New, Token: s.Token, By: s.By, Session: s.ID, Force: s.Force, Promote: s.Promote}
		if err := m.lookBack(tx); err != nil {
			return err
		}
		v, err := m.value()
		if err == nil {
			err = tx.Bucket(reflogBucket).Put(moveKey(r.Ref, at, s.ID), v)
		}
		if err != nil {
			return err
		}
	}
	if len(names) == 0 {
		return nil
	}
	own, err := tx.Bucket(movedBucket).CreateBucketIfNotExists([]byte(s.Token))
	if err != nil {
		return err
	}
	key := binary.BigEndian.AppendUint64(nil, uint64(s.Created.UnixNano())) // #nosec G115 -- a time of this century
	if err := own.Put(append(key, s.ID...), append(at, strings.Join(names, "\x00")...)); err != nil {
		return err
	}
	if err := count(own, len(names)); err != nil {
		return err
	}
	return forgetOldest(tx, own)
}

// lookedBack is how many earlier moves of a ref are compared with one.
const lookedBack = 1000

// lookBack finds out whether the ref had the commit before.
func (m *RefMove) lookBack(tx *bbolt.Tx) error {
	if !m.Promote || m.New == "" {
		return nil
	}
	c := tx.Bucket(reflogBucket).Cursor()
	k, v := lastBefore(c, append([]byte(m.Ref), 1))
	for n := 0; n < lookedBack && !m.Back && bytes.HasPrefix(k, movePrefix(m.Ref)); n++ {
		earlier, err := readMove(m.Ref, k, v)
		if err != nil {
			return err
		}
		m.Back = earlier.Old == m.New || earlier.New == m.New
		k, v = c.Prev()
	}
	return nil
}

// forgetOldest forgets the moves of a token's oldest sessions, as long as there are too
// many.
func forgetOldest(tx *bbolt.Tx, own *bbolt.Bucket) error {
	for own.Sequence() > mostMoves {
		k, _ := own.Cursor().First()
		if k == nil {
			return nil
		}
		if err := forgetListed(tx, own, bytes.Clone(k)); err != nil {
			return err
		}
	}
	return nil
}

// forgetMoves forgets the moves of a session.
func forgetMoves(tx *bbolt.Tx, id string, r *record) error {
	own := tx.Bucket(movedBucket).Bucket([]byte(r.Token))
	if own == nil {
		return nil
	}
	return forgetListed(tx, own, newestKey(id, r))
}

// forgetListed forgets the moves of the session of a key, if there are any.
func forgetListed(tx *bbolt.Tx, own *bbolt.Bucket, key []byte) error {
	at, names := readMoved(own.Get(key))
	var errs []error
	for _, ref := range names {
		errs = append(errs, tx.Bucket(reflogBucket).Delete(moveKey(ref, at, string(key[8:]))))
	}
	return errors.Join(append(errs, own.Delete(key), count(own, -len(names)))...)
}

// readMoved reads when a session was published, and which refs it moved.
func readMoved(v []byte) (at []byte, names []string) {
	if len(v) <= 8 {
		return nil, nil
	}
	return bytes.Clone(v[:8]), strings.Split(string(v[8:]), "\x00")
}

// Log gives the moves of a ref, the newest first, at most so many of those before a
// session. If there are more, next is what before has to be for them. An unknown session
// is ErrNotFound.
func (j *Journal) Log(ref, before string, limit int) (moves []RefMove, next string, err error) {
	err = j.view(func(tx *bbolt.Tx) error {
		prefix := movePrefix(ref)
		end := append(movePrefix(ref), bytes.Repeat([]byte{0xff}, 9)...)
		if before != "" {
			r, err := readRecord(tx, before)
			if err != nil {
				return err
			}
			end = moveKey(ref, binary.BigEndian.AppendUint64(nil, uint64(r.Updated.UnixNano())), before) // #nosec G115 -- as it was written
		}
		c := tx.Bucket(reflogBucket).Cursor()
		for k, v := lastBefore(c, end); k != nil && bytes.HasPrefix(k, prefix); k, v = c.Prev() {
			if len(moves) == limit {
				next = moves[limit-1].Session
				return nil
			}
			m, err := readMove(ref, k, v)
			if err != nil {
				return err
			}
			if c, err := readCounts(tx, m.Session); err == nil { // else it is shown without
				m.Bytes = c.StagedBytes
			}
			moves = append(moves, m)
		}
		return nil
	})
	return moves, next, err
}

// lastBefore goes to the last entry before a key.
func lastBefore(c *bbolt.Cursor, end []byte) (k, v []byte) {
	if k, _ := c.Seek(end); k == nil {
		return c.Last()
	}
	return c.Prev()
}

// LastMoves gives the last move of each of some refs that is remembered.
func (j *Journal) LastMoves(refs []string) (map[string]RefMove, error) {
	moves := make(map[string]RefMove, len(refs))
	err := j.view(func(tx *bbolt.Tx) error {
		c := tx.Bucket(reflogBucket).Cursor()
		for _, ref := range refs {
			k, v := lastBefore(c, append([]byte(ref), 1))
			if k == nil || !bytes.HasPrefix(k, movePrefix(ref)) {
				continue
			}
			m, err := readMove(ref, k, v)
			if err != nil {
				return err
			}
			moves[ref] = m
		}
		return nil
	})
	return moves, err
}

// Moved gives the last move of each ref that is remembered, in the order of their names.
func (j *Journal) Moved(visit func(RefMove) error) error {
	var names []string
	err := j.view(func(tx *bbolt.Tx) error {
		c := tx.Bucket(reflogBucket).Cursor()
		for k, _ := c.First(); k != nil; {
			ref, _, _ := bytes.Cut(k, []byte{0})
			names = append(names, string(ref))
			k, _ = c.Seek(append(bytes.Clone(ref), 1))
		}
		return nil
	})
	if err != nil {
		return err
	}
	last, err := j.LastMoves(names)
	for _, ref := range names {
		if m, is := last[ref]; is && err == nil {
			err = visit(m)
		}
	}
	return err
}

// fillLog records the moves of sessions that an older build published, as far as their
// refs are kept.
func fillLog(tx *bbolt.Tx) error {
	for _, name := range [][]byte{reflogBucket, movedBucket} {
		if err := tx.DeleteBucket(name); err != nil {
			return err
		}
		if _, err := tx.CreateBucket(name); err != nil {
			return err
		}
	}
	c := tx.Bucket(newestBucket).Cursor()
	for k, _ := c.First(); k != nil; k, _ = c.Next() {
		r, err := readRecord(tx, idOf(k, nil))
		if err != nil {
			return err
		}
		if r.State != Published {
			continue
		}
		s := r.session(idOf(k, nil), Counts{})
		if s.Refs, err = readRefs(tx, s.ID, &r); err != nil {
			return err
		}
		if err := recordMoves(tx, &s); err != nil {
			return err
		}
	}
	return nil
}

// checkLog compares the moves by ref with those by session.
func checkLog(tx *bbolt.Tx) error {
	var errs []error
	listed := 0
	tokens := tx.Bucket(movedBucket)
	err := tokens.ForEachBucket(func(token []byte) error {
		own, n := tokens.Bucket(token), 0
		err := own.ForEach(func(k, v []byte) error {
			at, names := readMoved(v)
			if n += len(names); len(k) <= 8 || len(names) == 0 {
				return fmt.Errorf("token %s: moves of a session have %d and %d bytes", token, len(k), len(v))
			}
			for _, ref := range names {
				if tx.Bucket(reflogBucket).Get(moveKey(ref, at, string(k[8:]))) == nil {
					errs = append(errs, fmt.Errorf("ref %s: its move by session %s is not kept", ref, k[8:]))
				}
			}
			return nil
		})
		if own.Sequence() != uint64(n) { // #nosec G115 -- a count
			errs = append(errs, fmt.Errorf("token %s: %d moves are kept, and %d counted", token, n, own.Sequence()))
		}
		listed += n
		return err
	})
	kept := 0
	errs = append(errs, err, tx.Bucket(reflogBucket).ForEach(func(k, v []byte) error {
		kept++
		ref, _, _ := bytes.Cut(k, []byte{0})
		_, err := readMove(string(ref), k, v)
		return err
	}))
	if kept != listed {
		errs = append(errs, fmt.Errorf("journal has %d moves of refs, and %d of sessions", kept, listed))
	}
	return errors.Join(errs...)
}
