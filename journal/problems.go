// SPDX-License-Identifier: AGPL-3.0-or-later

package journal

import (
	"bytes"
	"fmt"
	"maps"
	"slices"

	"go.etcd.io/bbolt"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
)

// problems are what is wrong with objects of one session, within a transaction.
type problems struct {
	bucket *bbolt.Bucket
	count  int // that there are, or wire.MaxProblems if there are more
}

func openProblems(tx *bbolt.Tx, id string) (*problems, error) {
	b := tx.Bucket(problemsBucket).Bucket([]byte(id))
	if b == nil {
		return nil, fmt.Errorf("session %s has no list of problems", id)
	}
	p := &problems{bucket: b}
	c := b.Cursor()
	for k, _ := c.First(); k != nil && p.count < wire.MaxProblems; k, _ = c.Next() {
		p.count++
	}
	return p, nil
}

// addRejected adds a problem, unless there are as many as a document lists: a client can
// send any number of objects that are rejected.
func (p *problems) addRejected(problem wire.ObjectProblem) error {
	if p.count >= wire.MaxProblems {
		return nil
	}
	return p.add(problem)
}

func (p *problems) add(problem wire.ObjectProblem) error {
	p.count++
	value := append(append([]byte(problem.Code), 0), problem.Reason...)
	return p.bucket.Put([]byte(problem.Object), value)
}

func (p *problems) remove(name ostree.Name) error {
	if p.count == 0 { // spares a name in hex for each good object
		return nil
	}
	return p.bucket.Delete([]byte(name.String()))
}

// Problems gives the first problems of a session, at most so many.
func (j *Journal) Problems(id string, most int) (list []wire.ObjectProblem, err error) {
	err = j.view(func(tx *bbolt.Tx) error {
		if _, err := readRecord(tx, id); err != nil {
			return err
		}
		list = readProblems(tx, id, most)
		return nil
	})
	return list, err
}

// readProblems reads the first problems of a session.
func readProblems(tx *bbolt.Tx, id string, most int) []wire.ObjectProblem {
	b := tx.Bucket(problemsBucket).Bucket([]byte(id))
	if b == nil {
		return nil
	}
	var list []wire.ObjectProblem
	c := b.Cursor()
	for k, v := c.First(); k != nil && len(list) < most; k, v = c.Next() {
		code, reason, _ := bytes.Cut(v, []byte{0})
		list = append(list, wire.ObjectProblem{Object: string(k), Code: string(code), Reason: string(reason)})
	}
	return list
}

// Withdraw takes back what was said of objects that proved missing or bad, in one
// transaction: it records the problems, and the objects that they and names speak
// of become Rejected where the problem is bad-objects and else Missing. Objects
// that the set lacks are added to it. *StateError if the session has ended.
func (j *Journal) Withdraw(id string, found []wire.ObjectProblem, names []ostree.Name) error {
	statuses := make(map[ostree.Name]Status, len(found)+len(names))
	for _, n := range names {
		statuses[n] = Missing
	}
	for _, p := range found {
		n, err := ostree.ParseName(p.Object)
		if err != nil {
			return fmt.Errorf("session %s: problem %s: %w", id, p.Code, err)
		}
		statuses[n] = Missing
		if p.Code == wire.BadObjects {
			statuses[n] = Rejected
		}
	}
	return j.update(func(tx *bbolt.Tx) error {
		e, err := j.edit(tx, id)
		if err != nil {
			return err
		}
		for _, p := range found {
			if err := e.problems.add(p); err != nil {
				return err
			}
		}
		for _, n := range slices.SortedFunc(maps.Keys(statuses), ostree.Name.Compare) {
			if err := e.withdraw(n, statuses[n]); err != nil {
				return err
			}
		}
		return e.save()
	})
}

// withdraw takes back what was said of an object that proved missing or bad.
func (e *edit) withdraw(name ostree.Name, status Status) error {
	ord, known := e.set.find(name)
	if !known {
		e.set.add(name, status)
		return nil
	}
	e.set.change(ord, status)
	if name.Type == ostree.CommitMeta {
		return e.set.deleteCommitMeta(name.Checksum)
	}
	return nil
}
