// SPDX-License-Identifier: AGPL-3.0-or-later

package journal

import (
	"errors"
	"fmt"

	"go.etcd.io/bbolt"

	"github.com/lirios/ostree-upload/internal/ostree"
)

// Most bounds the objects of sets: each takes 34 bytes of the file for as long as its
// session lasts, and up to 22 of memory. 0 is no limit.
type Most struct {
	Session int64 // of one session
	Token   int64 // of all sessions of a token that have not ended
}

// FullError says that there would be more objects than there may be.
type FullError struct {
	ID    string
	Token string // whose sessions have too many together; "" if it is the session alone
	Would int64
	Most  int64
}

func (e *FullError) Error() string {
	if e.Token != "" {
		return fmt.Sprintf("the open sessions of token %s would have %d objects, and may have %d", e.Token, e.Would, e.Most)
	}
	return fmt.Sprintf("session %s would have %d objects, and may have %d", e.ID, e.Would, e.Most)
}

// checkFull refuses objects that were added beyond the bounds.
func (e *edit) checkFull(most Most) error {
	if len(e.set.added) == 0 {
		return nil
	}
	if known := e.set.counts.Known; most.Session > 0 && known > most.Session {
		return &FullError{ID: e.id, Would: known, Most: most.Session}
	}
	if most.Token == 0 {
		return nil
	}
	all, err := e.ofToken()
	if err == nil && all > most.Token {
		err = &FullError{ID: e.id, Token: e.record.Token, Would: all, Most: most.Token}
	}
	return err
}

// ofToken counts the objects of all sessions of the token that have not ended.
func (e *edit) ofToken() (all int64, err error) {
	all = e.set.counts.Known
	c := e.tx.Bucket(liveBucket).Cursor()
	for id, owner := c.First(); id != nil; id, owner = c.Next() {
		if string(owner) != e.record.Token || string(id) == e.id {
			continue
		}
		counts, err := readCounts(e.tx, string(id))
		if err != nil {
			return 0, err
		}
		all += counts.Known
	}
	return all, nil
}

// maxCommitMetas is how many bytes of detached metadata a session may bring in all: they
// are in the file, and in memory while the session is published.
const maxCommitMetas = 64 << 20

// putCommitMeta keeps the detached metadata of a commit, if it fits. The bucket's
// sequence counts the bytes of all.
func (s *set) putCommitMeta(commit ostree.Checksum, meta []byte) (fits bool, err error) {
	b := s.commitMeta
	more := len(meta) - len(b.Get(commit[:]))
	if int64(b.Sequence())+int64(more) > maxCommitMetas {
		return false, nil
	}
	return true, errors.Join(count(b, more), b.Put(commit[:], meta))
}

func (s *set) deleteCommitMeta(commit ostree.Checksum) error {
	b := s.commitMeta
	return errors.Join(count(b, -len(b.Get(commit[:]))), b.Delete(commit[:]))
}

// count adds to a bucket's sequence, which earlier versions left at 0.
func count(b *bbolt.Bucket, n int) error {
	return b.SetSequence(uint64(max(0, int64(b.Sequence())+int64(n))))
}

// Recorded is how many uploads of a session were recorded, which it remembers. The
// bucket's sequence counts them.
func (j *Journal) Recorded(id string) (n int64, err error) {
	err = j.viewSet(id, func(s *set) error {
		n = int64(s.uploads.Sequence())
		return nil
	})
	return n, err
}
