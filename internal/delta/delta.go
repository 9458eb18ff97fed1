// SPDX-License-Identifier: AGPL-3.0-or-later

// Package delta makes and applies differences: what turns old content, the source,
// into new content, the target.
//
// A difference is sections, back to back, until the target is whole. A section is
// the lengths of its four columns as unsigned varints, and then the columns:
//
//   - operations: seek as a zigzag varint, copy and insert as unsigned varints. The
//     position in the source moves by seek; then copy bytes are made from as many of the
//     source, and the position moves on with them; then insert bytes follow.
//   - runs: of all copied bytes of the section in a row, how many are equal to the
//     source's and how many after them are not, in turn, as unsigned varints.
//   - differences: for each byte that is not equal, target less source, modulo 256.
//   - inserts: the inserted bytes.
//
// What holds for a Decoder, whatever it is given:
//
//   - Each operation and each pair of runs makes at least a byte, so that the time it
//     takes is bounded by the bytes that come in and those that go out.
//   - It reads nothing outside of the source, and makes neither more nor less than it
//     was told to.
//   - Its memory is that of one section.
//
// Sizes and positions are bytes. An Encoder and a Decoder serve one goroutine at a
// time, and are made to be used again.
package delta

import "fmt"

// MaxSection is the most bytes that the columns of a section have.
const MaxSection = 2 << 20

// A BadError says why a difference is none, in words that go on with what is said of
// an object.
type BadError struct{ reason string }

func (e *BadError) Error() string { return e.reason }

func badf(format string, args ...any) error {
	return &BadError{fmt.Sprintf(format, args...)}
}

// An op is an operation.
type op struct {
	seek             int64 // of the position in the source, before
	copied, inserted uint64
}
