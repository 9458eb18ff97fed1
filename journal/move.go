// SPDX-License-Identifier: AGPL-3.0-or-later

package journal

import (
	"slices"

	"go.etcd.io/bbolt"

	"github.com/lirios/ostree-upload/internal/wire"
)

// Move records that a session is now in state to, and wakes who waits for that
// (Changed). What change sets in Error, Detail, Remote, Request, Subject, Expires, By
// and Brought is recorded with it; change may be nil. So are the works that are to follow,
// if the state is another. A session that comes back to Open expires as after activity. Recording
// the state that the session is in only applies change. *StateError if the session may
// not move so.
func (j *Journal) Move(id string, to State, change func(*Session), follow ...Ask) (Session, error) {
	var s Session
	var moved bool
	err := j.update(func(tx *bbolt.Tx) (err error) {
		s, moved, err = j.move(tx, id, to, change, follow)
		return err
	})
	if err != nil {
		return Session{}, err
	}
	if moved {
		j.wake(id)
	}
	return s, nil
}

// MoveFrom is Move for a session that has to be in state from: *StateError if it is in
// another, also if it could move from there.
func (j *Journal) MoveFrom(id string, from, to State, change func(*Session)) (Session, error) {
	var s Session
	var moved bool
	err := j.update(func(tx *bbolt.Tx) error {
		r, err := readRecord(tx, id)
		if err == nil && r.State != from {
			err = &StateError{ID: id, From: r.State, To: to}
		}
		if err == nil {
			s, moved, err = j.move(tx, id, to, change, nil)
		}
		return err
	})
	if err != nil {
		return Session{}, err
	}
	if moved {
		j.wake(id)
	}
	return s, nil
}

func (j *Journal) move(tx *bbolt.Tx, id string, to State, change func(*Session), follow []Ask) (s Session, moved bool, err error) {
	r, s, err := readWhole(tx, id)
	if err != nil {
		return s, false, err
	}
	if !r.State.Can(to) {
		return s, false, &StateError{ID: id, From: r.State, To: to}
	}
	moved = r.State != to
	if moved {
		s.State, s.Updated, s.Begun = to, j.clock(), 0
	}
	if moved && to == Open {
		s.Expires = s.Updated.Add(r.TTL)
	}
	if change != nil {
		shown := s
		change(&shown)
		s.Error, s.Detail, s.Expires = shown.Error, shown.Detail, shown.Expires.UTC().Round(0)
		s.Remote, s.Request, s.Subject, s.Brought, s.By = shown.Remote, shown.Request, shown.Subject, shown.Brought, shown.By
		s.Begun = shown.Begun
	}
	if !moved && s.Error == r.Error && s.Detail == r.Detail && s.Remote == r.Remote && s.Request == r.Request && s.Subject == r.Subject && s.Expires.Equal(r.Expires) && slices.Equal(s.Brought, r.Brought) && s.By == r.By && s.Begun == r.Begun {
		return s, false, errUnchanged
	}
	from := r.State
	r.State, r.Updated, r.Expires, r.Brought = s.State, s.Updated, s.Expires, s.Brought
	if moved {
		r.step(s.Updated)
		s.Steps = r.Steps
	}
	r.Error, r.Detail, r.Remote, r.Request, r.Subject = s.Error, s.Detail, s.Remote, s.Request, s.Subject
	if moved && len(follow) > 0 {
		if r.After, err = ask(tx, id, follow, s.Updated); err != nil {
			return s, false, err
		}
	}
	r.By, r.Begun = s.By, s.Begun
	if err := r.write(tx, id); err != nil {
		return s, false, err
	}
	if moved && to == Published {
		if err := recordMoves(tx, &s); err != nil {
			return s, false, err
		}
	}
	if to.Final() {
		err = tx.Bucket(liveBucket).Delete([]byte(id))
	}
	if err == nil {
		s.After, err = r.after(tx)
	}
	j.counted(from, -1)
	j.counted(to, 1)
	return s, moved, err
}

// readWhole reads a session's record, and the Session that it and all the rest
// make.
func readWhole(tx *bbolt.Tx, id string) (record, Session, error) {
	r, err := readRecord(tx, id)
	if err != nil {
		return r, Session{}, err
	}
	c, err := readCounts(tx, id)
	if err != nil {
		return r, Session{}, err
	}
	s := r.session(id, c)
	s.Problems = readProblems(tx, id, wire.MaxProblems)
	if s.After, err = r.after(tx); err != nil {
		return r, s, err
	}
	s.Refs, err = readRefs(tx, id, &r)
	return r, s, err
}

// Changed gives a channel that is closed when the session next moves to another
// state in this process, or is forgotten. To wait without missing a move, call
// Changed first, then Session, then receive. All who wait for a session share
// one channel, which the journal holds only until that move: waiters that give
// up need not say so. The channel of a session that has ended is never closed,
// that of an unknown one is closed already.
func (j *Journal) Changed(id string) <-chan struct{} {
	ch := j.watch(id)
	var r record
	err := j.view(func(tx *bbolt.Tx) (err error) {
		r, err = readRecord(tx, id)
		return err
	})
	if err != nil {
		j.wake(id)
	} else if r.State.Final() {
		// Its last move is committed: nobody will close the channel, so it
		// must not stay behind.
		j.unwatch(id, ch)
	}
	return ch
}

func (j *Journal) watch(id string) chan struct{} {
	j.watching.Lock()
	defer j.watching.Unlock()
	ch := j.watchers[id]
	if ch == nil {
		ch = make(chan struct{})
		j.watchers[id] = ch
	}
	return ch
}

func (j *Journal) unwatch(id string, ch chan struct{}) {
	j.watching.Lock()
	defer j.watching.Unlock()
	if j.watchers[id] == ch {
		delete(j.watchers, id)
	}
}

func (j *Journal) wake(id string) {
	j.watching.Lock()
	defer j.watching.Unlock()
	if ch := j.watchers[id]; ch != nil {
		delete(j.watchers, id)
		close(ch)
	}
}
