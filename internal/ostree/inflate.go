// SPDX-License-Identifier: AGPL-3.0-or-later

package ostree

import (
	"encoding/binary"
	"errors"
	"hash"
)

// An inflater undoes raw deflate (RFC 1951) into a hash. It accepts exactly what
// zlib accepts, which is what every OSTree client reads with. That is why it
// stands here: klauspost/compress (1.20.3) decodes a block whose distance
// alphabet is empty by the one before it, even of another stream, where zlib
// refuses it; an object could pass here and be unreadable everywhere else. Knowing
// where its bytes go, it is also faster.
type inflater struct {
	in    *input
	bits  uint64 // input not used yet, the next bit lowest
	nbits uint   // how many of bits count; what stands above repeats in.buf[in.pos:]

	out     [windowSize + 64<<10]byte // the window, and room to write
	n       int                       // end of what is written in out
	flushed int                       // end of what was hashed in out
	sum     hash.Hash
	count   int64 // bytes hashed
	size    int64 // bytes to expect

	literals, distances huffman
	lengths             [maxSymbols + 32]uint8
}

const (
	windowSize = 32 << 10
	// maxStep is how much one turn of the fast loop can write: a few literals, a
	// match of 258 bytes, and the rest of a word.
	maxStep = 258 + 16
)

var (
	errDeflate = errors.New("its deflate stream is damaged")
	errCut     = errors.New("its deflate stream is cut short")
	errTooLong = errors.New("its content is longer than size says")
	errFollows = errors.New("something follows its deflate stream")
)

// run inflates one deflate stream of size bytes, with which in must end. It
// returns how much it hashed; errTooLong comes at most a buffer late.
func (z *inflater) run(in *input, sum hash.Hash, size int64) (int64, error) {
	z.in, z.bits, z.nbits = in, 0, 0
	z.n, z.flushed = 0, 0
	z.sum, z.count, z.size = sum, 0, size
	err := z.blocks()
	if err == nil {
		err = z.flush()
	}
	if err == nil && (z.nbits >= 8 || !in.atEnd()) {
		err = errFollows
	}
	z.in, z.sum = nil, nil
	return z.count, err
}

func (z *inflater) blocks() error {
	for last := false; !last; {
		head, err := z.take(3)
		if err != nil {
			return err
		}
		last = head&1 != 0
		switch head >> 1 {
		case 0:
			err = z.stored()
		case 1:
			err = z.codes(fixedLiterals, fixedDistances)
		case 2:
			if err = z.readTables(); err == nil {
				err = z.codes(&z.literals, &z.distances)
			}
		default:
			err = errDeflate
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// flush hashes what was written and makes room, keeping the window.
func (z *inflater) flush() error {
	fresh := z.out[z.flushed:z.n]
	z.count += int64(len(fresh))
	if z.count > z.size {
		return errTooLong
	}
	z.sum.Write(fresh)
	if z.n > windowSize {
		copy(z.out[:windowSize], z.out[z.n-windowSize:z.n])
		z.n = windowSize
	}
	z.flushed = z.n
	return nil
}

// fill gets at least want bits together, if there are any more.
func (z *inflater) fill(want uint) {
	for z.nbits < want {
		if z.in.atEnd() {
			return
		}
		z.bits |= uint64(z.in.buf[z.in.pos]) << z.nbits
		z.in.pos++
		z.nbits += 8
	}
}

// take uses up n bits, at most 16.
func (z *inflater) take(n uint) (int, error) {
	if z.fill(n); z.nbits < n {
		return 0, errCut
	}
	v := z.bits & (1<<n - 1)
	z.bits >>= n
	z.nbits -= n
	return int(v), nil
}

// stored copies a block that is not compressed.
func (z *inflater) stored() error {
	z.bits >>= z.nbits % 8
	z.nbits -= z.nbits % 8
	length, err := z.take(16)
	if err != nil {
		return err
	}
	check, err := z.take(16)
	if err != nil {
		return err
	}
	if length != ^check&0xffff {
		return errDeflate
	}
	for z.nbits > 0 && length > 0 {
		b, _ := z.take(8)
		if err := z.put([]byte{byte(b)}); err != nil {
			return err
		}
		length--
	}
	if z.nbits == 0 {
		z.bits = 0 // it repeated input that is about to be copied
	}
	for length > 0 {
		if z.in.atEnd() {
			return errCut
		}
		part := z.in.buf[z.in.pos:min(len(z.in.buf), z.in.pos+length)]
		if err := z.put(part); err != nil {
			return err
		}
		z.in.pos += len(part)
		length -= len(part)
	}
	return nil
}

// put writes bytes as they are.
func (z *inflater) put(p []byte) error {
	for len(p) > 0 {
		if z.n == len(z.out) {
			if err := z.flush(); err != nil {
				return err
			}
		}
		n := copy(z.out[z.n:], p)
		z.n += n
		p = p[n:]
	}
	return nil
}

// codes decodes a compressed block to its end.
func (z *inflater) codes(literals, distances *huffman) error {
	for {
		if z.n > len(z.out)-maxStep {
			if err := z.flush(); err != nil {
				return err
			}
		}
		end, err := z.fast(literals, distances)
		if !end && err == nil && z.n <= len(z.out)-maxStep {
			end, err = z.slow(literals, distances)
		}
		if end || err != nil {
			return err
		}
	}
}

// fast decodes as long as 8 bytes of input are at hand and any step fits into
// the output. One load gives the 56 bits and more that two literals, or one and
// a match (15+5+15+13 bits), can need.
func (z *inflater) fast(literals, distances *huffman) (end bool, err error) {
	in, pos := z.in.buf, z.in.pos
	bits, nbits, n, out := z.bits, z.nbits, z.n, &z.out
	for pos+8 <= len(in) && n <= len(out)-maxStep {
		bits |= binary.LittleEndian.Uint64(in[pos:]) << (nbits & 63)
		pos += int((63 - nbits) >> 3)
		nbits |= 56
		e := literals.first[bits&(1<<tableBits-1)]
		for i := 0; e&isLiteral != 0; i++ {
			out[n] = byte(e >> 16)
			n++
			bits >>= e & 15
			nbits -= uint(e & 15)
			if i == 3 {
				break
			}
			e = literals.first[bits&(1<<tableBits-1)]
		}
		if e&isLiteral != 0 || nbits < 48 {
			continue
		}
		if e&isLink != 0 {
			e = literals.link(e, bits)
		}
		bits >>= e & 15
		nbits -= uint(e & 15)
		if e&isBase == 0 {
			if e&isLiteral != 0 {
				out[n] = byte(e >> 16)
				n++
				continue
			}
			end = e&isEnd != 0
			if !end {
				err = errDeflate
			}
			break
		}
		length := int(e>>16) + int(bits&(1<<(e>>4&15)-1))
		bits >>= e >> 4 & 15
		nbits -= uint(e >> 4 & 15)
		e = distances.first[bits&(1<<tableBits-1)]
		if e&isLink != 0 {
			e = distances.link(e, bits)
		}
		bits >>= e & 15
		nbits -= uint(e & 15)
		distance := int(e>>16) + int(bits&(1<<(e>>4&15)-1))
		bits >>= e >> 4 & 15
		nbits -= uint(e >> 4 & 15)
		if e&isBase == 0 || distance > n {
			err = errDeflate
			break
		}
		if distance >= 8 && length <= 32 {
			// Most matches: four words, whatever the length, are quicker than a loop
			// or a call. What they write too much is overwritten, or never read.
			to, from := (*[32]byte)(out[n:]), (*[32]byte)(out[n-distance:])
			binary.LittleEndian.PutUint64(to[0:], binary.LittleEndian.Uint64(from[0:]))
			binary.LittleEndian.PutUint64(to[8:], binary.LittleEndian.Uint64(from[8:]))
			binary.LittleEndian.PutUint64(to[16:], binary.LittleEndian.Uint64(from[16:]))
			binary.LittleEndian.PutUint64(to[24:], binary.LittleEndian.Uint64(from[24:]))
		} else {
			repeat(out[:n+length], n, distance)
		}
		n += length
	}
	z.bits, z.nbits, z.n, z.in.pos = bits, nbits, n, pos
	return end, err
}

// link follows an entry for a code longer than tableBits.
func (h *huffman) link(e uint32, bits uint64) uint32 {
	return h.sub[uint64(e>>16)+bits>>tableBits&(1<<(e>>4&15)-1)]
}

// repeat fills out from n on with what stands distance bytes before.
func repeat(out []byte, n, distance int) {
	from := n - distance
	for n < len(out) {
		n += copy(out[n:], out[from:n])
	}
}

// slow decodes one symbol, where input may end or come in pieces.
func (z *inflater) slow(literals, distances *huffman) (end bool, err error) {
	e, err := z.symbol(literals)
	if err != nil {
		return false, err
	}
	switch {
	case e&isLiteral != 0:
		z.out[z.n] = byte(e >> 16)
		z.n++
		return false, nil
	case e&isEnd != 0:
		return true, nil
	case e&isBase == 0:
		return false, errDeflate
	}
	extra, err := z.take(uint(e >> 4 & 15))
	if err != nil {
		return false, err
	}
	length := int(e>>16) + extra
	if e, err = z.symbol(distances); err != nil {
		return false, err
	}
	if extra, err = z.take(uint(e >> 4 & 15)); err != nil {
		return false, err
	}
	distance := int(e>>16) + extra
	if e&isBase == 0 || distance > z.n {
		return false, errDeflate
	}
	repeat(z.out[:z.n+length], z.n, distance)
	z.n += length
	return false, nil
}

// symbol decodes one code and returns its entry.
func (z *inflater) symbol(h *huffman) (uint32, error) {
	z.fill(maxCode)
	e := h.first[z.bits&(1<<tableBits-1)]
	if e&isLink != 0 {
		e = h.link(e, z.bits)
	}
	n := uint(e & 15)
	if n > z.nbits || n == 0 && z.nbits < maxCode {
		return 0, errCut
	}
	if n == 0 {
		return 0, errDeflate
	}
	z.bits >>= n
	z.nbits -= n
	return e, nil
}

// lengthOrder is the order in which the code lengths of the code lengths come.
var lengthOrder = [19]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

// readTables reads the alphabets of a dynamic block, RFC 1951 section 3.2.7.
func (z *inflater) readTables() error {
	head, err := z.take(14)
	if err != nil {
		return err
	}
	literals, distances, codes := head&31+257, head>>5&31+1, head>>10+4
	if literals > 286 || distances > 30 {
		return errDeflate
	}
	var small [19]uint8
	for _, i := range lengthOrder[:codes] {
		n, err := z.take(3)
		if err != nil {
			return err
		}
		small[i] = uint8(n)
	}
	if !z.literals.build(small[:], lengthSymbols[:], true) {
		return errDeflate
	}
	all := z.lengths[:literals+distances]
	if err := z.readLengths(all); err != nil {
		return err
	}
	if all[256] == 0 || // no block can end
		!z.literals.build(all[:literals], literalSymbols[:], false) ||
		!z.distances.build(all[literals:], distanceSymbols[:], false) {
		return errDeflate
	}
	return nil
}

// readLengths reads code lengths by the table in z.literals.
func (z *inflater) readLengths(all []uint8) error {
	for i := 0; i < len(all); {
		e, err := z.symbol(&z.literals)
		if err != nil {
			return err
		}
		n := uint8(e >> 16)
		if n < 16 {
			all[i] = n
			i++
			continue
		}
		repeats, value, err := z.readRepeat(n, all[:i])
		if err != nil {
			return err
		}
		if repeats > len(all)-i {
			return errDeflate
		}
		for range repeats {
			all[i] = value
			i++
		}
	}
	return nil
}

// readRepeat reads how often a length comes again: the last one, or zero.
func (z *inflater) readRepeat(code uint8, before []uint8) (repeats int, value uint8, err error) {
	bits, least := uint(2), 3
	switch {
	case code == 17:
		bits = 3
	case code == 18:
		bits, least = 7, 11
	case len(before) == 0:
		return 0, 0, errDeflate
	default:
		value = before[len(before)-1]
	}
	repeats, err = z.take(bits)
	return repeats + least, value, err
}
