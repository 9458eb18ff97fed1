// SPDX-License-Identifier: AGPL-3.0-or-later

package delta

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

// A Payload is where a difference is read from.
type Payload interface {
	io.Reader
	io.ByteReader
}

// A Decoder applies differences.
type Decoder struct {
	buf     []byte // of the section
	columns [columns][]byte
	made    []byte // a piece of the target

	equal, unequal uint64 // what is left of the pair of runs
	source         io.ReaderAt
	sourceSize     uint64
	pos            uint64 // in the source
	left           uint64 // of the target
	w              io.Writer
}

// Decode reads a difference and writes the target, of size bytes, to w. What follows
// the difference is not read. The error is a *BadError if the difference is to blame,
// and else that of in, source or w.
func (d *Decoder) Decode(w io.Writer, in Payload, source io.ReaderAt, sourceSize, size int64) error {
	d.w, d.source, d.sourceSize = w, source, uint64(sourceSize)
	d.pos, d.left = 0, uint64(size)
	if d.made == nil {
		d.made = make([]byte, piece)
	}
	for d.left > 0 {
		if err := d.read(in); err != nil {
			return err
		}
		if err := d.section(); err != nil {
			return err
		}
	}
	return nil
}

// read reads a section.
func (d *Decoder) read(in Payload) error {
	var lengths [columns]uint64
	var all uint64
	for i := range lengths {
		n, err := readLength(in)
		if err != nil {
			return err
		}
		if all+n > MaxSection {
			return errTooLong
		}
		lengths[i], all = n, all+n
	}
	if uint64(cap(d.buf)) < all {
		d.buf = make([]byte, all)
	}
	b := d.buf[:all]
	if _, err := io.ReadFull(in, b); err != nil {
		return readError(err)
	}
	for i, n := range lengths {
		d.columns[i], b = b[:n:n], b[n:]
	}
	return nil
}

// readLength reads the length of a column.
func readLength(in io.ByteReader) (uint64, error) {
	var n uint64
	for shift := 0; shift <= 21; shift += 7 { // MaxSection has 22 bits
		b, err := in.ReadByte()
		if err != nil {
			return 0, readError(err)
		}
		n |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return n, nil
		}
	}
	return 0, errTooLong
}

// readError is why a difference could not be read further.
func readError(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return badf("its difference ends early")
	}
	return err
}

var errTooLong = badf("a section of its difference has more than %d bytes", MaxSection)

// section makes what a section says.
func (d *Decoder) section() error {
	if len(d.columns[opsColumn]) == 0 {
		return badf("a section of its difference has no operation")
	}
	d.equal, d.unequal = 0, 0
	for len(d.columns[opsColumn]) > 0 {
		o, err := d.op()
		if err != nil {
			return err
		}
		if err := d.copy(o.copied); err != nil {
			return err
		}
		if err := d.insert(o.inserted); err != nil {
			return err
		}
	}
	for i, c := range d.columns {
		if len(c) > 0 {
			return badf("bytes are left in column %d of a section of its difference", i+1)
		}
	}
	if d.equal+d.unequal > 0 {
		return badf("the runs of a section of its difference are longer than what is copied")
	}
	return nil
}

// op reads an operation, moves the position and checks that the rest can be.
func (d *Decoder) op() (o op, err error) {
	if o.seek, err = d.varint(); err != nil {
		return o, err
	}
	if o.copied, err = d.uvarint(opsColumn); err != nil {
		return o, err
	}
	if o.inserted, err = d.uvarint(opsColumn); err != nil {
		return o, err
	}
	switch pos := int64(d.pos); {
	case o.seek < -pos:
		return o, badf("its difference reads before the start of its source")
	case o.seek > int64(d.sourceSize)-pos, o.copied > d.sourceSize-uint64(pos+o.seek):
		return o, badf("its difference reads beyond the %d bytes of its source", d.sourceSize)
	case o.copied == 0 && o.inserted == 0:
		return o, badf("an operation of its difference makes nothing")
	case o.copied > d.left || o.inserted > d.left-o.copied:
		return o, badf("its difference makes more than size says")
	}
	d.pos += uint64(o.seek)
	d.left -= o.copied + o.inserted
	return o, nil
}

// copy makes n bytes from the source.
func (d *Decoder) copy(n uint64) error {
	for n > 0 {
		b := d.made[:min(n, uint64(len(d.made)))]
		if got, err := d.source.ReadAt(b, int64(d.pos)); got < len(b) {
			return fmt.Errorf("read the source: %w", err)
		}
		if err := d.change(b); err != nil {
			return err
		}
		if _, err := d.w.Write(b); err != nil {
			return err
		}
		d.pos += uint64(len(b))
		n -= uint64(len(b))
	}
	return nil
}

// change makes the source's bytes the target's.
func (d *Decoder) change(b []byte) error {
	for len(b) > 0 {
		if d.equal == 0 && d.unequal == 0 {
			if err := d.runs(); err != nil {
				return err
			}
		}
		n := min(d.equal, uint64(len(b)))
		d.equal -= n
		b = b[n:]
		n = min(d.unequal, uint64(len(b)))
		if d.equal > 0 || n == 0 {
			continue
		}
		diffs := d.columns[diffsColumn]
		if uint64(len(diffs)) < n {
			return badf("its difference has fewer bytes than its runs say")
		}
		for i := range b[:n] {
			b[i] += diffs[i]
		}
		d.columns[diffsColumn] = diffs[n:]
		d.unequal -= n
		b = b[n:]
	}
	return nil
}

// runs reads the next pair of runs.
func (d *Decoder) runs() (err error) {
	if d.equal, err = d.uvarint(runsColumn); err != nil {
		return err
	}
	if d.unequal, err = d.uvarint(runsColumn); err != nil {
		return err
	}
	if d.equal == 0 && d.unequal == 0 {
		return badf("a pair of runs of its difference has no bytes")
	}
	if d.equal > math.MaxInt64 || d.unequal > math.MaxInt64 {
		return badf("a run of its difference is longer than any file")
	}
	return nil
}

// insert makes n bytes from the difference itself.
func (d *Decoder) insert(n uint64) error {
	inserts := d.columns[insertsColumn]
	if uint64(len(inserts)) < n {
		return badf("its difference inserts bytes that it does not have")
	}
	d.columns[insertsColumn] = inserts[n:]
	if n == 0 {
		return nil
	}
	_, err := d.w.Write(inserts[:n])
	return err
}

func (d *Decoder) uvarint(column int) (uint64, error) {
	v, n := binary.Uvarint(d.columns[column])
	if n <= 0 {
		return 0, badNumber(n)
	}
	d.columns[column] = d.columns[column][n:]
	return v, nil
}

func (d *Decoder) varint() (int64, error) {
	v, n := binary.Varint(d.columns[opsColumn])
	if n <= 0 {
		return 0, badNumber(n)
	}
	d.columns[opsColumn] = d.columns[opsColumn][n:]
	return v, nil
}

// badNumber is why a number cannot be read: n is what package binary told.
func badNumber(n int) error {
	if n < 0 {
		return badf("a number in its difference has more than 64 bits")
	}
	return badf("a column of a section of its difference ends within a number")
}
