// SPDX-License-Identifier: AGPL-3.0-or-later

package delta

import (
	"encoding/binary"
	"math/bits"
)

// A match is where target[at:at+length] is equal to the source, aligned by shift.
type match struct {
	at, length int
	shift      int64
}

// How many bytes more than the present alignment another one has to get right, or how
// many in a row; and how far the present one is looked ahead: while most of that is
// right, nothing else is sought, which is what makes an update of a large program fast.
const (
	better    = 4
	sure      = 256
	lookahead = 32
	rightOf   = 24
)

// next finds the first match from scan on that is worth to change the alignment; its
// length is 0 if there is none.
func (e *Encoder) next(scan int) match {
	for t := scan; t+seedSize <= len(e.target); {
		if n := e.following(t); n > 0 {
			t += n
			continue
		}
		if m, ok := e.seek(t); ok {
			if m.length >= sure || m.length > countEqual(e.aligned(t, e.shift), e.target[t:t+m.length])+better {
				return m
			}
		}
		t++
	}
	return match{at: len(e.target)}
}

// following is how far the present alignment can be followed without a search: 0 if not
// even the next few bytes are mostly right.
func (e *Encoder) following(t int) int {
	old, target := e.aligned(t, e.shift), e.target[t:]
	if len(old) < lookahead {
		return 0
	}
	n := equalBytes(old, target)
	if n >= lookahead {
		return n - lookahead/2
	}
	if len(target) >= lookahead && countEqual(old, target[:lookahead]) >= rightOf {
		return max(n, 1)
	}
	return 0
}

// seek looks for target[t:] in the window.
func (e *Encoder) seek(t int) (match, bool) {
	target := e.target[t:]
	best := match{at: t}
	var places [ways]int64
	for _, at := range places[:e.index.find(target, &places)] {
		at -= e.base
		if at < 0 || at >= int64(len(e.win)) {
			continue
		}
		if n := equalBytes(e.win[at:], target); n > best.length {
			best.length, best.shift = n, at+e.base-int64(t)
		}
	}
	return best, best.length >= seedSize && best.shift != e.shift
}

// forward is how many bytes of target[from:to] are best copied at the present
// alignment.
func (e *Encoder) forward(from, to int) int {
	old := e.aligned(from, e.shift)
	target := e.target[from:to]
	n := min(len(old), len(target))
	best, score, top := 0, 0, 0
	for i := 0; i < n; {
		if equal := equalBytes(old[i:n], target[i:n]); equal > 0 {
			i += equal
			score += equal
			if score > top {
				best, top = i, score
			}
			continue
		}
		i++
		score--
	}
	return best
}

// backward is how many bytes before a match are best copied at its alignment.
func (e *Encoder) backward(from int, m match) int {
	most := min(int64(m.at-from), int64(m.at)+m.shift-e.base)
	at := int64(m.at) + m.shift - e.base
	best, score, top := 0, 0, 0
	for i := 1; i <= int(most); i++ {
		if e.win[at-int64(i)] == e.target[m.at-i] {
			score++
			if score > top {
				best, top = i, score
			}
		} else {
			score--
			if score < top-giveUp {
				break
			}
		}
	}
	return best
}

// giveUp is after how much loss no more is hoped for.
const giveUp = 4096

// split tells how many of the over bytes from start on, that both alignments can make,
// are left to the present one; the other is that of shift.
func (e *Encoder) split(start, over int, shift int64) int {
	now, then := e.aligned(start, e.shift), e.aligned(start, shift)
	best, score, top := 0, 0, 0
	for i := range over {
		b := e.target[start+i]
		if now[i] == b {
			score++
		}
		if then[i] == b {
			score--
		}
		if score > top {
			best, top = i+1, score
		}
	}
	return best
}

// countEqual is how many bytes of a and b, as far as both go, are equal.
func countEqual(a, b []byte) (n int) {
	const low, high = 0x7f7f7f7f7f7f7f7f, 0x8080808080808080
	most := min(len(a), len(b))
	i := 0
	for ; i+8 <= most; i += 8 {
		x := binary.LittleEndian.Uint64(a[i:]) ^ binary.LittleEndian.Uint64(b[i:])
		n += 8 - bits.OnesCount64((x&low+low|x)&high) // a bit for each byte that is not 0
	}
	for ; i < most; i++ {
		if a[i] == b[i] {
			n++
		}
	}
	return n
}

// seedSize is the shortest match, and the most that is hashed of one.
const seedSize = 16

// An index knows where in the source bytes are, by the hash of seedSize of them. It
// knows one place in each step, the latest few of each hash. A place is a position
// divided by step, and a tag: more of the hash, which spares most looks at the source
// that would be in vain.
type index struct {
	places []bucket
	shift  uint
}

const (
	ways    = 2
	step    = 4
	tagBits = 4 // with 28 for a position up to 1 GiB, divided by step
)

type bucket [ways]uint32

// reset empties the index, for a window of so many bytes.
func (x *index) reset(window int64) {
	bits := uint(8)
	for int64(1)<<bits*ways*step < window {
		bits++
	}
	if len(x.places) == 1<<bits {
		clear(x.places)
	} else {
		x.places = make([]bucket, 1<<bits)
	}
	x.shift = 64 - bits
}

// add adds win[from:], where win begins at base.
func (x *index) add(win []byte, from int, base int64) {
	from += int(-(base + int64(from)) & (step - 1))
	for i := from; i+seedSize <= len(win); i += step {
		h, plain := hash(win[i:])
		if plain {
			continue
		}
		b := &x.places[h>>x.shift]
		b[1], b[0] = b[0], uint32((base+int64(i))/step)<<tagBits|tag(h)
	}
}

// find puts where bytes may be that begin with b into at, and tells how many there are.
func (x *index) find(b []byte, at *[ways]int64) (n int) {
	h, plain := hash(b)
	if plain {
		return 0
	}
	for _, place := range x.places[h>>x.shift] {
		if place&(1<<tagBits-1) == tag(h) {
			at[n] = int64(place>>tagBits) * step
			n++
		}
	}
	return n
}

// hash is the hash of the first bytes; plain tells that they are all the same, which is
// found everywhere.
func hash(b []byte) (h uint64, plain bool) {
	lo, hi := binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])
	h = (lo*0x9e3779b97f4a7c15 ^ (hi + 0x632be59bd9b4e019)) * 0xff51afd7ed558ccd
	h ^= h >> 32
	h *= 0xc4ceb9fe1a85ec53
	return h, lo == hi && lo == lo<<8|lo>>56
}

// tag is a part of a hash that its place in the index does not depend on.
func tag(h uint64) uint32 { return uint32(h>>8) & (1<<tagBits - 1) }
