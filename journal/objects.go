// SPDX-License-Identifier: AGPL-3.0-or-later

package journal

import (
	"fmt"
	"slices"

	"go.etcd.io/bbolt"

	"github.com/lirios/ostree-upload/internal/ostree"
)

// Entry is an object for a session's set, and what is known of it.
type Entry struct {
	Name   ostree.Name
	Status Status
}

// edit is a change to a session that has not ended, within a write transaction.
type edit struct {
	tx       *bbolt.Tx
	id       string
	record   record
	set      *set
	problems *problems
	touched  bool
}

// edit begins a change, which counts as activity while the session is open.
// *StateError if the session has ended.
func (j *Journal) edit(tx *bbolt.Tx, id string) (*edit, error) {
	r, err := readRecord(tx, id)
	if err != nil {
		return nil, err
	}
	if r.State.Final() {
		return nil, &StateError{ID: id, From: r.State}
	}
	s, err := j.openSet(tx, id)
	if err != nil {
		return nil, err
	}
	if s == nil {
		return nil, fmt.Errorf("session %s is %s but has no object set", id, r.State)
	}
	p, err := openProblems(tx, id)
	if err != nil {
		return nil, err
	}
	e := &edit{tx: tx, id: id, record: r, set: s, problems: p}
	e.touched = e.record.touch(j.clock(), r.TTL)
	return e, nil
}

// change gives an object of the set another status. One that is there has no
// problem any more.
func (e *edit) change(name ostree.Name, ord uint32, status Status) error {
	e.set.change(ord, status)
	if status == Staged || status == Present {
		return e.problems.remove(name)
	}
	return nil
}

func (e *edit) save() error {
	if e.touched {
		if err := e.record.write(e.tx, e.id); err != nil {
			return err
		}
	}
	return e.set.save(e.tx, e.id)
}

// Add is AddWithin without bounds.
func (j *Journal) Add(id string, objects []Entry) error { return j.AddWithin(Most{}, id, objects) }

// AddWithin puts objects into the set of an open session, in one transaction, and
// counts as activity. An object that the set knows takes the new status, but
// Rejected does not become Missing, and a commitmeta keeps what it has.
// *StateError unless the session is open, *FullError beyond the bounds.
func (j *Journal) AddWithin(most Most, id string, objects []Entry) error {
	for _, o := range objects {
		if !o.Status.known() {
			return fmt.Errorf("session %s: object %s: %s is unknown", id, o.Name, o.Status)
		}
	}
	return j.update(func(tx *bbolt.Tx) error {
		e, err := j.edit(tx, id)
		if err != nil {
			return err
		}
		if e.record.State != Open {
			return &StateError{ID: id, From: e.record.State}
		}
		for _, o := range objects {
			if err := e.add(o); err != nil {
				return err
			}
		}
		if !e.set.dirty && !e.touched {
			return errUnchanged
		}
		if err := e.checkFull(most); err != nil {
			return err
		}
		return e.save()
	})
}

func (e *edit) add(o Entry) error {
	ord, known := e.set.find(o.Name)
	if !known {
		e.set.add(o.Name, o.Status)
		return nil
	}
	if o.Name.Type == ostree.CommitMeta || o.Status == Missing && e.set.statusOf(ord) == Rejected {
		return nil
	}
	return e.change(o.Name, ord, o.Status)
}

// Statuses gives the status of each of names in a session's set, 0 for one that
// is not in it. Once a session is released, none is.
func (j *Journal) Statuses(id string, names []ostree.Name) ([]Status, error) {
	statuses := make([]Status, len(names))
	err := j.viewSet(id, func(s *set) error {
		for i, n := range names {
			if ord, known := s.find(n); known {
				statuses[i] = s.statusOf(ord)
			}
		}
		return nil
	})
	return statuses, err
}

// Each calls fn for each object of a session's set, ordered by checksum and
// then type, all as of one moment, until fn fails. A released session has none.
func (j *Journal) Each(id string, fn func(ostree.Name, Status) error) error {
	return j.viewSet(id, func(s *set) error {
		for _, ord := range s.inOrder() {
			if err := fn(key(s.names.at(ord)).name(), s.statusOf(ord)); err != nil {
				return err
			}
		}
		return nil
	})
}

// Part gives at most so many objects of a session's set, beginning with the one of
// number from, in the order in which they came. A set that is short of that gives
// fewer, a released one none. It is for those who work on each object for long, which
// Each would keep the file from being cleaned meanwhile.
func (j *Journal) Part(id string, from, most int) (part []Entry, err error) {
	err = j.viewSet(id, func(s *set) error {
		for ord := from; ord < min(from+most, int(s.stored)); ord++ {
			at := uint32(ord) // #nosec G115 -- below stored
			part = append(part, Entry{key(s.names.at(at)).name(), s.statusOf(at)})
		}
		return nil
	})
	return part, err
}

// CommitMetas gives the detached metadata that a session received, by commit.
func (j *Journal) CommitMetas(id string) (map[ostree.Checksum][]byte, error) {
	metas := map[ostree.Checksum][]byte{}
	err := j.viewSet(id, func(s *set) error {
		return s.commitMeta.ForEach(func(k, v []byte) error {
			metas[ostree.Checksum(k)] = slices.Clone(v)
			return nil
		})
	})
	return metas, err
}

// Needed reports which of names are in the set of any session that is open,
// verifying or publishing. Asking for many at once looks at each session once.
func (j *Journal) Needed(names ...ostree.Name) ([]bool, error) {
	needed := make([]bool, len(names))
	err := j.view(func(tx *bbolt.Tx) error {
		c := tx.Bucket(liveBucket).Cursor()
		for id, _ := c.First(); id != nil; id, _ = c.Next() {
			if err := j.markNeeded(tx, string(id), names, needed); err != nil {
				return err
			}
		}
		return nil
	})
	return needed, err
}

// markNeeded marks the names that are in the set of one session.
func (j *Journal) markNeeded(tx *bbolt.Tx, id string, names []ostree.Name, needed []bool) error {
	if counts, err := readCounts(tx, id); err != nil || counts.Known == 0 {
		return err
	}
	s, err := j.openSet(tx, id)
	if err != nil || s == nil {
		return err
	}
	for i, n := range names {
		if !needed[i] {
			_, needed[i] = s.find(n)
		}
	}
	return nil
}

// viewSet runs fn on the set of a session, unless it is released.
func (j *Journal) viewSet(id string, fn func(*set) error) error {
	return j.view(func(tx *bbolt.Tx) error {
		if _, err := readRecord(tx, id); err != nil {
			return err
		}
		s, err := j.openSet(tx, id)
		if err != nil || s == nil {
			return err
		}
		return fn(s)
	})
}
