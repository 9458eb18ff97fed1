// SPDX-License-Identifier: AGPL-3.0-or-later

package push

import (
	"cmp"
	"slices"
)

// A queue is the items of a pool in their order: as they came until an encoder first asks,
// and from then on those with an older version apart from the others.
type queue struct {
	others []item // in the order in which they came; all items before the first split
	split  bool
	sorted []item // with an older version, what saves most first
	fresh  []item // the same, that came since that was sorted
}

func (q *queue) len() int { return len(q.others) + len(q.sorted) + len(q.fresh) }

func (q *queue) add(i item) {
	if q.split && !i.origin.none {
		q.fresh = append(q.fresh, i)
		return
	}
	q.others = append(q.others, i)
}

// next takes an item in the order in which they came, as files lie on the disk.
func (q *queue) next() (one item) {
	list := q.front()
	one, *list = (*list)[0], (*list)[1:]
	return one
}

// nextSize is the size of the item that next takes.
func (q *queue) nextSize() int64 { return (*q.front())[0].size }

func (q *queue) front() *[]item {
	for _, list := range []*[]item{&q.others, &q.fresh} {
		if len(*list) > 0 {
			return list
		}
	}
	return &q.sorted
}

// last takes the item that saves least.
func (q *queue) last() (one item) {
	q.sort()
	list := q.back()
	end := len(*list) - 1
	one, *list = (*list)[end], (*list)[:end]
	return one
}

// lastSize is the size of the item that last takes.
func (q *queue) lastSize() int64 {
	q.sort()
	list := *q.back()
	return list[len(list)-1].size
}

func (q *queue) back() *[]item {
	if len(q.others) > 0 {
		return &q.others
	}
	return &q.sorted
}

// first takes the item that saves most, and those that are very like it, such as a program
// and its twin, which are to be in one pack.
func (q *queue) first() []item {
	q.sort()
	list := &q.sorted
	if len(*list) == 0 {
		list = &q.others
	}
	n := 1
	for n < min(len(*list), twinsMost) && (*list)[n].twin((*list)[n-1]) {
		n++
	}
	batch := slices.Clone((*list)[:n])
	*list = (*list)[n:]
	return batch
}

const (
	// twinsMost is how many items that are alike go to one encoder.
	twinsMost = 8
	// twinLeast is the size below which nothing is lost by sending twins apart.
	twinLeast = 256 << 10
)

// twin tells whether an item is probably much like the one before it.
func (i item) twin(before item) bool {
	return !i.origin.none && !before.origin.none && i.origin.folder == before.origin.folder && i.size > twinLeast && i.size > before.size/100*95
}

// sort puts what saves most first: the folder with the largest file, and in it the largest
// file. It waits until a good part is fresh: to sort for each item takes too long.
func (q *queue) sort() {
	if !q.split {
		q.split = true
		all := q.others
		q.others = nil
		for _, i := range all {
			q.add(i)
		}
	}
	if len(q.fresh) == 0 || len(q.fresh) < len(q.sorted)/4 {
		return
	}
	q.sorted = append(q.sorted, q.fresh...)
	q.fresh = nil
	largest := map[uint32]int64{}
	for _, i := range q.sorted {
		largest[i.origin.folder] = max(largest[i.origin.folder], i.size)
	}
	slices.SortStableFunc(q.sorted, func(a, b item) int {
		if a.origin.folder != b.origin.folder {
			return cmp.Or(cmp.Compare(largest[b.origin.folder], largest[a.origin.folder]), cmp.Compare(a.origin.folder, b.origin.folder))
		}
		return cmp.Compare(b.size, a.size)
	})
}
