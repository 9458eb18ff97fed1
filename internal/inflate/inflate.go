// SPDX-License-Identifier: AGPL-3.0-or-later

// Package inflate undoes raw deflate (RFC 1951) and accepts exactly the streams
// that zlib accepts, which every OSTree client reads with.
//
//   - A stream that zlib refuses, or with something after its end, is an error,
//     whatever was inflated before.
//   - Input may come from an enemy: nothing here panics, and an Inflater's memory
//     does not grow with the content.
//   - How the reader cuts its bytes into pieces changes neither the verdict nor
//     the result.
//
// klauspost/compress (1.20.3) does not keep the first promise: it decodes a block
// without distance codes by the codes of the block before, even if that was in
// another stream, and zlib refuses such a block. So an object could be accepted
// here that no client can read. This package is also faster, since it knows that
// its output goes to a hash.
//
// Sizes are bytes. An Inflater and an Input serve one goroutine at a time.
package inflate

import (
	"encoding/binary"
	"errors"
	"io"
)

// An Inflater inflates streams one after the other, each into a hash. The zero
// value is ready; it has about 130 KiB and allocates no more.
type Inflater struct {
	in    *Input
	bits  uint64 // input that is not used yet, the next bit lowest
	nbits uint   // how many of bits count; those above them repeat in.buf[in.pos:]

	out     [windowSize + 64<<10]byte // the window, and room to write
	n       int                       // end of what is written in out
	flushed int                       // end of what was hashed in out
	sum     io.Writer
	count   int64 // bytes hashed
	size    int64 // bytes to expect

	literals, distances huffman
	lengths             [maxSymbols + 32]uint8
}

const (
	windowSize = 32 << 10
	// maxStep is the most that one turn of the fast loop can write: a few literals,
	// a match of 258 bytes, and the rest of a word.
	maxStep = 258 + 16
)

// Why bytes are refused, in words that go on with what is said of an object.
var (
	ErrCut     = errors.New("its deflate stream is cut short")
	ErrTooLong = errors.New("its content is longer than size says")
	ErrFollows = errors.New("something follows its deflate stream")
	errDamaged = errors.New("its deflate stream is damaged")
)

// Inflate inflates one stream, of at most size bytes, into sum, which gets at most
// 96 KiB at a time; an error of it ends the inflating. Input must end with the
// stream. It returns how many bytes it inflated. ErrTooLong comes at most 96 KiB
// after the first byte too many. When in's reader fails, its bytes just end here:
// ask in.Err before you believe the verdict.
func (z *Inflater) Inflate(in *Input, sum io.Writer, size int64) (int64, error) {
	z.in, z.bits, z.nbits = in, 0, 0
	z.n, z.flushed = 0, 0
	z.sum, z.count, z.size = sum, 0, size
	err := z.blocks()
	if err == nil {
		err = z.flush()
	}
	if err == nil && (z.nbits >= 8 || !in.AtEnd()) {
		err = ErrFollows
	}
	z.in, z.sum = nil, nil
	return z.count, err
}

func (z *Inflater) blocks() error {
	for last := false; !last; {
		head, err := z.readBits(3)
		if err != nil {
			return err
		}
		last = head&1 != 0
		switch head >> 1 {
		case 0:
			err = z.copyStored()
		case 1:
			err = z.decode(fixedLiterals, fixedDistances)
		case 2:
			if err = z.readTables(); err == nil {
				err = z.decode(&z.literals, &z.distances)
			}
		default:
			err = errDamaged
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// flush hashes what was written since the last flush, and makes room for more: it
// keeps only the window.
func (z *Inflater) flush() error {
	fresh := z.out[z.flushed:z.n]
	z.count += int64(len(fresh))
	if z.count > z.size {
		return ErrTooLong
	}
	if _, err := z.sum.Write(fresh); err != nil {
		return err
	}
	if z.n > windowSize {
		copy(z.out[:windowSize], z.out[z.n-windowSize:z.n])
		z.n = windowSize
	}
	z.flushed = z.n
	return nil
}

// fill loads input until there are at least want bits, or input ends.
func (z *Inflater) fill(want uint) {
	for z.nbits < want {
		if z.in.AtEnd() {
			return
		}
		z.bits |= uint64(z.in.buf[z.in.pos]) << z.nbits
		z.in.pos++
		z.nbits += 8
	}
}

// readBits reads n bits, at most 16.
func (z *Inflater) readBits(n uint) (int, error) {
	if z.fill(n); z.nbits < n {
		return 0, ErrCut
	}
	v := z.bits & (1<<n - 1)
	z.bits >>= n
	z.nbits -= n
	return int(v), nil
}

// copyStored copies a block that is not compressed.
func (z *Inflater) copyStored() error {
	z.bits >>= z.nbits % 8
	z.nbits -= z.nbits % 8
	length, err := z.readBits(16)
	if err != nil {
		return err
	}
	check, err := z.readBits(16)
	if err != nil {
		return err
	}
	if length != ^check&0xffff {
		return errDamaged
	}
	for z.nbits > 0 && length > 0 {
		b, _ := z.readBits(8)
		if err := z.write([]byte{byte(b)}); err != nil {
			return err
		}
		length--
	}
	if z.nbits == 0 {
		z.bits = 0 // it repeats input that is copied below
	}
	for length > 0 {
		if z.in.AtEnd() {
			return ErrCut
		}
		part := z.in.buf[z.in.pos:min(len(z.in.buf), z.in.pos+length)]
		if err := z.write(part); err != nil {
			return err
		}
		z.in.pos += len(part)
		length -= len(part)
	}
	return nil
}

// write puts bytes into the output as they are.
func (z *Inflater) write(p []byte) error {
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

// decode decodes a compressed block to its end.
func (z *Inflater) decode(literals, distances *huffman) error {
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
// the output. One load gives at least 56 bits. Literals use them up while there
// are enough; a match needs up to 48 (15+5+15+13).
func (z *Inflater) fast(literals, distances *huffman) (end bool, err error) {
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
				err = errDamaged
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
			err = errDamaged
			break
		}
		if distance >= 8 && length <= 32 {
			// Most matches are such. Four words, whatever the length, take less time
			// than a loop or a call. What they write beyond the match is overwritten
			// later, or is never read.
			to, from := (*[32]byte)(out[n:]), (*[32]byte)(out[n-distance:])
			binary.LittleEndian.PutUint64(to[0:], binary.LittleEndian.Uint64(from[0:]))
			binary.LittleEndian.PutUint64(to[8:], binary.LittleEndian.Uint64(from[8:]))
			binary.LittleEndian.PutUint64(to[16:], binary.LittleEndian.Uint64(from[16:]))
			binary.LittleEndian.PutUint64(to[24:], binary.LittleEndian.Uint64(from[24:]))
		} else {
			copyMatch(out[:n+length], n, distance)
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

// copyMatch fills out from n on with the bytes that are distance bytes before.
func copyMatch(out []byte, n, distance int) {
	from := n - distance
	for n < len(out) {
		n += copy(out[n:], out[from:n])
	}
}

// slow decodes one symbol. It reads byte by byte, as input may end or go on in
// another piece.
func (z *Inflater) slow(literals, distances *huffman) (end bool, err error) {
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
		return false, errDamaged
	}
	extra, err := z.readBits(uint(e >> 4 & 15))
	if err != nil {
		return false, err
	}
	length := int(e>>16) + extra
	if e, err = z.symbol(distances); err != nil {
		return false, err
	}
	if extra, err = z.readBits(uint(e >> 4 & 15)); err != nil {
		return false, err
	}
	distance := int(e>>16) + extra
	if e&isBase == 0 || distance > z.n {
		return false, errDamaged
	}
	copyMatch(z.out[:z.n+length], z.n, distance)
	z.n += length
	return false, nil
}

// symbol decodes one code and returns its entry.
func (z *Inflater) symbol(h *huffman) (uint32, error) {
	z.fill(maxCode)
	e := h.first[z.bits&(1<<tableBits-1)]
	if e&isLink != 0 {
		e = h.link(e, z.bits)
	}
	n := uint(e & 15)
	if n > z.nbits || n == 0 && z.nbits < maxCode {
		return 0, ErrCut
	}
	if n == 0 {
		return 0, errDamaged
	}
	z.bits >>= n
	z.nbits -= n
	return e, nil
}

// lengthOrder is the order in which the lengths of the codes for code lengths are
// stored.
var lengthOrder = [19]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

// readTables reads the alphabets of a dynamic block, RFC 1951 section 3.2.7.
func (z *Inflater) readTables() error {
	head, err := z.readBits(14)
	if err != nil {
		return err
	}
	literals, distances, codes := head&31+257, head>>5&31+1, head>>10+4
	if literals > 286 || distances > 30 {
		return errDamaged
	}
	var small [19]uint8
	for _, i := range lengthOrder[:codes] {
		n, err := z.readBits(3)
		if err != nil {
			return err
		}
		small[i] = uint8(n)
	}
	if !z.literals.build(small[:], lengthSymbols[:], true) {
		return errDamaged
	}
	all := z.lengths[:literals+distances]
	if err := z.readLengths(all); err != nil {
		return err
	}
	if all[256] == 0 || // no block can end
		!z.literals.build(all[:literals], literalSymbols[:], false) ||
		!z.distances.build(all[literals:], distanceSymbols[:], false) {
		return errDamaged
	}
	return nil
}

// readLengths reads code lengths by the table in z.literals.
func (z *Inflater) readLengths(all []uint8) error {
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
			return errDamaged
		}
		for range repeats {
			all[i] = value
			i++
		}
	}
	return nil
}

// readRepeat reads how often a length is repeated: the one before, or zero.
func (z *Inflater) readRepeat(code uint8, before []uint8) (repeats int, value uint8, err error) {
	bits, least := uint(2), 3
	switch {
	case code == 17:
		bits = 3
	case code == 18:
		bits, least = 7, 11
	case len(before) == 0:
		return 0, 0, errDamaged
	default:
		value = before[len(before)-1]
	}
	repeats, err = z.readBits(bits)
	return repeats + least, value, err
}
