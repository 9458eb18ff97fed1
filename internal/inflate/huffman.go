// SPDX-License-Identifier: AGPL-3.0-or-later

package inflate

import "math/bits"

// A huffman table decodes one alphabet of a deflate block (RFC 1951). The next
// tableBits bits of input are an index into first. Where the code is longer, the
// entry there is a link to a part of sub, which the bits after those index.
//
// An entry holds the code's length in bits 0 to 3; in bits 4 to 7 the number of
// extra bits or, if it is a link, of index bits; then flags; and in the upper half
// a value: a literal, the base of a length or distance, or a position in sub. No
// symbol has the code of an entry without flags.
type huffman struct {
	first [1 << tableBits]uint32
	sub   []uint32
}

const (
	tableBits = 10
	maxCode   = 15 // bits of a code

	isLiteral = 1 << 8
	isBase    = 1 << 9 // of a length or a distance
	isEnd     = 1 << 10
	isLink    = 1 << 11
)

// build makes the table of an alphabet from its code lengths; symbol gives each
// symbol's entry without the length. It accepts what zlib does: a complete set of
// codes and, unless complete is set, also a single code of one bit or no code.
func (h *huffman) build(lengths []uint8, symbol []uint32, complete bool) bool {
	var count [maxCode + 1]int
	for _, n := range lengths {
		count[n]++
	}
	count[0] = 0
	var next [maxCode + 2]int // for each length, where in order its symbols start
	left, longest := 1, 0
	for n := 1; n <= maxCode; n++ {
		left = left<<1 - count[n]
		if left < 0 {
			return false
		}
		if count[n] > 0 {
			longest = n
		}
		next[n+1] = next[n] + count[n]
	}
	if left > 0 && (complete || longest > 1) {
		return false
	}
	var order [maxSymbols]uint16
	for s, n := range lengths {
		if n > 0 {
			order[next[n]] = uint16(s)
			next[n]++
		}
	}
	if left > 0 {
		clear(h.first[:])
	}
	h.fill(order[:next[maxCode]], lengths, symbol)
	return true
}

// fill enters the symbols, which come in the order of their codes.
func (h *huffman) fill(order []uint16, lengths []uint8, symbol []uint32) {
	h.sub = h.sub[:0]
	code, last, group := 0, 0, -1
	start, width := 0, 0 // of the group's part of sub
	for i, s := range order {
		n := int(lengths[s])
		code <<= n - last
		last = n
		reversed := int(bits.Reverse16(uint16(code)) >> (16 - n))
		entry := symbol[s] | uint32(n)
		code++
		if n <= tableBits {
			for k := reversed; k < len(h.first); k += 1 << n {
				h.first[k] = entry
			}
			continue
		}
		if prefix := reversed & (1<<tableBits - 1); prefix != group {
			group, start = prefix, len(h.sub)
			width = groupWidth(order[i:], lengths)
			h.first[prefix] = isLink | uint32(width)<<4 | uint32(start)<<16
			h.sub = append(h.sub, make([]uint32, 1<<width)...)
		}
		for k := reversed >> tableBits; k < 1<<width; k += 1 << (n - tableBits) {
			h.sub[start+k] = entry
		}
	}
}

// groupWidth is how many bits the longest code has beyond tableBits, of those that
// begin with the same tableBits as the first one. They come in order and fill all
// that these bits leave free; where it is full the group ends.
func groupWidth(order []uint16, lengths []uint8) int {
	width := int(lengths[order[0]]) - tableBits
	room := 1 << width
	for _, s := range order {
		n := int(lengths[s]) - tableBits
		room <<= n - width
		width = n
		if room--; room == 0 {
			break
		}
	}
	return width
}

const maxSymbols = 288

// The alphabets of RFC 1951, section 3.2.5 and 3.2.7, as entries.
var (
	literalSymbols  = makeLiterals()
	distanceSymbols = makeDistances()
	lengthSymbols   = makeCodeLengths()
)

func makeLiterals() (s [maxSymbols]uint32) {
	for i := range 256 {
		s[i] = isLiteral | uint32(i)<<16
	}
	s[256] = isEnd
	base := uint32(3)
	for i := 257; i < 285; i++ {
		extra := uint32(0)
		if i >= 265 {
			extra = uint32(i-261) / 4
		}
		s[i] = isBase | extra<<4 | base<<16
		base += 1 << extra
	}
	s[285] = isBase | 258<<16
	return s // 286 and 287 have codes but no meaning
}

func makeDistances() (s [32]uint32) {
	base := uint32(1)
	for i := range 30 {
		extra := uint32(0)
		if i >= 4 {
			extra = uint32(i-2) / 2
		}
		s[i] = isBase | extra<<4 | base<<16
		base += 1 << extra
	}
	return s // 30 and 31 have codes but no meaning
}

func makeCodeLengths() (s [19]uint32) {
	for i := range s {
		s[i] = isLiteral | uint32(i)<<16
	}
	return s
}

// fixedLiterals and fixedDistances are the tables of RFC 1951, section 3.2.6.
var fixedLiterals, fixedDistances = makeFixed()

func makeFixed() (literals, distances *huffman) {
	var l [maxSymbols]uint8
	for i := range l {
		switch {
		case i < 144:
			l[i] = 8
		case i < 256:
			l[i] = 9
		case i < 280:
			l[i] = 7
		default:
			l[i] = 8
		}
	}
	var d [32]uint8
	for i := range d {
		d[i] = 5
	}
	literals, distances = new(huffman), new(huffman)
	literals.build(l[:], literalSymbols[:], true)
	distances.build(d[:], distanceSymbols[:], true)
	return literals, distances
}
