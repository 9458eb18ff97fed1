// SPDX-License-Identifier: AGPL-3.0-or-later

package delta

import (
	"encoding/binary"
	"io"
	"math/bits"
)

// The columns of a section, in their order.
const (
	opsColumn = iota
	runsColumn
	diffsColumn
	insertsColumn
	columns
)

// A section is gathered column by column.
type section struct {
	columns        [columns][]byte
	equal, unequal uint64 // runs that have not been written
}

// The pieces that a long copy or insert is cut into, and how full a section is when
// it is closed: one more piece fits, whatever it needs.
const (
	piece       = 64 << 10
	fullSection = MaxSection - 6*piece
	// gap is how many equal bytes end a run of unequal ones. A pair of runs costs about
	// as much as these do.
	gap = 3
)

func (s *section) size() (n int) {
	for _, c := range s.columns {
		n += len(c)
	}
	return n
}

// op appends an operation without its bytes.
func (s *section) op(o op) {
	b := binary.AppendVarint(s.columns[opsColumn], o.seek)
	b = binary.AppendUvarint(b, o.copied)
	s.columns[opsColumn] = binary.AppendUvarint(b, o.inserted)
}

// copy appends what makes target from source, of the same length.
func (s *section) copy(source, target []byte) {
	for i := 0; i < len(target); {
		n := equalBytes(source[i:], target[i:])
		s.addEqual(source[i:i+n], n)
		i += n
		start := i
		for i < len(target) && source[i] != target[i] {
			i++
		}
		s.addUnequal(source[start:i], target[start:i])
	}
}

// addEqual notes n equal bytes. A few after unequal ones count as such.
func (s *section) addEqual(equal []byte, n int) {
	if n == 0 {
		return
	}
	if s.unequal > 0 && n < gap {
		s.unequal += uint64(n)
		for range equal {
			s.columns[diffsColumn] = append(s.columns[diffsColumn], 0)
		}
		return
	}
	if s.unequal > 0 {
		s.closeRuns()
	}
	s.equal += uint64(n)
}

func (s *section) addUnequal(source, target []byte) {
	s.unequal += uint64(len(target))
	for i := range target {
		s.columns[diffsColumn] = append(s.columns[diffsColumn], target[i]-source[i])
	}
}

// closeRuns writes the pair of runs that is open.
func (s *section) closeRuns() {
	if s.equal+s.unequal == 0 {
		return
	}
	b := binary.AppendUvarint(s.columns[runsColumn], s.equal)
	s.columns[runsColumn] = binary.AppendUvarint(b, s.unequal)
	s.equal, s.unequal = 0, 0
}

func (s *section) insert(b []byte) {
	s.columns[insertsColumn] = append(s.columns[insertsColumn], b...)
}

// write writes the section, unless it is empty, and empties it.
func (s *section) write(w io.Writer) error {
	s.closeRuns()
	if s.size() == 0 {
		return nil
	}
	var head []byte
	for _, c := range s.columns {
		head = binary.AppendUvarint(head, uint64(len(c)))
	}
	if _, err := w.Write(head); err != nil {
		return err
	}
	for i, c := range s.columns {
		if _, err := w.Write(c); err != nil {
			return err
		}
		s.columns[i] = c[:0]
	}
	return nil
}

// equalBytes is how many bytes a and b have in common at their start.
func equalBytes(a, b []byte) int {
	n := min(len(a), len(b))
	i := 0
	for ; i+8 <= n; i += 8 {
		if x := binary.LittleEndian.Uint64(a[i:]) ^ binary.LittleEndian.Uint64(b[i:]); x != 0 {
			return i + bits.TrailingZeros64(x)/8
		}
	}
	for i < n && a[i] == b[i] {
		i++
	}
	return i
}
