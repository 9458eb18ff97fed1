// SPDX-License-Identifier: AGPL-3.0-or-later

package journal

import (
	"hash/maphash"
	"sync"

	"github.com/lirios/ostree-upload/internal/ostree"
)

// keyLen is the length of a name in the file: checksum, then type.
const keyLen = 33

type key [keyLen]byte

func keyOf(n ostree.Name) (k key) {
	copy(k[:], n.Checksum[:])
	k[32] = byte(n.Type)
	return k
}

func (k key) name() (n ostree.Name) {
	copy(n.Checksum[:], k[:32])
	n.Type = ostree.Type(k[32])
	return n
}

// index leads from the names of one session's set to their numbers. It holds
// fingerprints only; the names themselves stay in the file. Names never change
// their numbers and only committed ones get in, so that one index serves every
// transaction: each ignores the numbers beyond the end of what it sees.
type index struct {
	mu    sync.RWMutex
	slots []uint64 // fingerprint<<32 | number+1; 0 is a free slot; a power of two
	n     uint32   // numbers below this are in
}

// seed makes fingerprints unforeseeable: a client chooses its names, and must
// not be able to choose ones that collide.
var seed = maphash.MakeSeed()

func fingerprint(k []byte) uint32 { return uint32(maphash.Bytes(seed, k) >> 32) }

// extend takes in the names up to number n.
func (x *index) extend(names *column, n uint32) {
	x.mu.RLock()
	upToDate := x.n >= n
	x.mu.RUnlock()
	if upToDate {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.reserve(n)
	for ; x.n < n; x.n++ {
		x.insert(uint64(fingerprint(names.at(x.n)))<<32 | uint64(x.n+1))
	}
}

// reserve makes room for n names with at most three quarters of the slots used.
func (x *index) reserve(n uint32) {
	size := max(len(x.slots), 64)
	for uint64(n)*4 > uint64(size)*3 {
		size *= 2
	}
	if size == len(x.slots) {
		return
	}
	old := x.slots
	x.slots = make([]uint64, size)
	for _, slot := range old {
		if slot != 0 {
			x.insert(slot)
		}
	}
}

func (x *index) insert(slot uint64) {
	mask := uint64(len(x.slots) - 1)
	i := slot >> 32 & mask
	for x.slots[i] != 0 {
		i = (i + 1) & mask
	}
	x.slots[i] = slot
}

// find gives the number of k among the first n of names.
func (x *index) find(k *key, names *column, n uint32) (uint32, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if len(x.slots) == 0 {
		return 0, false
	}
	mask := uint64(len(x.slots) - 1)
	print := uint64(fingerprint(k[:]))
	for i := print & mask; x.slots[i] != 0; i = (i + 1) & mask {
		ord := uint32(x.slots[i]) - 1
		if x.slots[i]>>32 == print && ord < n && string(names.at(ord)) == string(k[:]) {
			return ord, true
		}
	}
	return 0, false
}

// index gives the index of a session's set, empty at first.
func (j *Journal) index(id string) *index {
	j.indexing.Lock()
	defer j.indexing.Unlock()
	x := j.indexes[id]
	if x == nil {
		x = &index{}
		j.indexes[id] = x
	}
	return x
}

func (j *Journal) dropIndex(id string) {
	j.indexing.Lock()
	defer j.indexing.Unlock()
	delete(j.indexes, id)
}
