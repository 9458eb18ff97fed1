// SPDX-License-Identifier: AGPL-3.0-or-later

package journal

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"

	"go.etcd.io/bbolt"

	"github.com/lirios/ostree-upload/internal/ostree"
)

var (
	namesBucket      = []byte("names")
	statusBucket     = []byte("status")
	commitMetaBucket = []byte("commitmeta")
	uploadsBucket    = []byte("uploads")
)

// set is the object set of one session within a transaction.
type set struct {
	counts Counts
	names  *column
	status *column
	index  *index
	n      uint32         // objects, with those added here
	stored uint32         // objects in the file
	added  map[key]uint32 // numbers of those added here
	dirty  bool           // a status changed or an object came

	commitMeta, uploads *bbolt.Bucket
}

func createSet(tx *bbolt.Tx, id string) error {
	b, err := tx.Bucket(setsBucket).CreateBucket([]byte(id))
	if err != nil {
		return err
	}
	for _, name := range [][]byte{namesBucket, statusBucket, commitMetaBucket, uploadsBucket} {
		if _, err := b.CreateBucket(name); err != nil {
			return err
		}
	}
	return nil
}

// openSet opens the set of a session that is known; it is nil once released.
func (j *Journal) openSet(tx *bbolt.Tx, id string) (*set, error) {
	b := tx.Bucket(setsBucket).Bucket([]byte(id))
	if b == nil {
		return nil, nil
	}
	counts, err := readCounts(tx, id)
	if err != nil {
		return nil, err
	}
	names, err := openColumn(b, namesBucket, keyLen)
	if err != nil {
		return nil, fmt.Errorf("session %s: %w", id, err)
	}
	status, err := openColumn(b, statusBucket, 1)
	if err != nil {
		return nil, fmt.Errorf("session %s: %w", id, err)
	}
	if n := counts.Known; n < 0 || n > 0 && (n > 1<<32-1 || names.at(uint32(n-1)) == nil) {
		return nil, fmt.Errorf("session %s: counts say %d objects, and its set has fewer", id, n)
	}
	s := &set{
		counts: counts, names: names, status: status, index: j.index(id),
		n: uint32(counts.Known), stored: uint32(counts.Known),
		commitMeta: b.Bucket(commitMetaBucket), uploads: b.Bucket(uploadsBucket),
	}
	s.index.extend(names, s.stored)
	return s, nil
}

// find gives the number of an object of the set.
func (s *set) find(name ostree.Name) (uint32, bool) {
	k := keyOf(name)
	if ord, ok := s.added[k]; ok {
		return ord, true
	}
	return s.index.find(&k, s.names, s.stored)
}

func (s *set) statusOf(ord uint32) Status {
	if b := s.status.at(ord); b != nil {
		return Status(b[0])
	}
	return 0
}

// add appends an object that the set lacks.
func (s *set) add(name ostree.Name, status Status) {
	k := keyOf(name)
	if s.added == nil {
		s.added = map[key]uint32{}
	}
	s.names.put(s.n, k[:])
	s.status.put(s.n, []byte{byte(status)})
	s.added[k] = s.n
	s.n++
	s.counts.Known++
	s.counts.move(0, status)
	s.dirty = true
}

// change gives an object of the set another status.
func (s *set) change(ord uint32, status Status) {
	old := s.statusOf(ord)
	if old == status {
		return
	}
	s.status.put(ord, []byte{byte(status)})
	s.counts.move(old, status)
	s.dirty = true
}

// save writes what add and change did, and the counts.
func (s *set) save(tx *bbolt.Tx, id string) error {
	if err := s.names.flush(); err != nil {
		return err
	}
	if err := s.status.flush(); err != nil {
		return err
	}
	return writeCounts(tx, id, s.counts)
}

// inOrder gives the numbers of all objects, ordered by name.
func (s *set) inOrder() []uint32 {
	type item struct {
		prefix uint64
		ord    uint32
	}
	items := make([]item, s.stored)
	for ord := range items {
		items[ord] = item{binary.BigEndian.Uint64(s.names.at(uint32(ord))), uint32(ord)}
	}
	slices.SortFunc(items, func(a, b item) int {
		if c := cmp.Compare(a.prefix, b.prefix); c != 0 {
			return c
		}
		return slices.Compare(s.names.at(a.ord), s.names.at(b.ord))
	})
	ords := make([]uint32, len(items))
	for i := range items {
		ords[i] = items[i].ord
	}
	return ords
}
