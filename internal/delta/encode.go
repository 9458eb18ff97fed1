// SPDX-License-Identifier: AGPL-3.0-or-later

package delta

import (
	"fmt"
	"io"
)

// What an Encoder holds at most: a window of the source, the index of it (as
// much), a block of the target and a section, 38 MiB in all. In a source that is larger
// than the window it finds only what is moved by less than half the window, compared
// with how long the source and the target are.
const (
	windowSize = 16 << 20
	blockSize  = 4 << 20
)

// An Encoder makes differences.
type Encoder struct {
	window, block int64 // the most bytes of win and target

	source io.Reader
	size   int64 // of the source
	win    []byte
	base   int64 // position of win in the source
	index  index

	target  []byte // the block
	section section
	w       io.Writer

	// The alignment that the scan follows: target[t] is to be made from source
	// position t+shift of the block.
	shift int64
	pos   int64 // in the source, after all operations so far
	held  op    // not written yet, more may be added to it
}

// NewEncoder makes an Encoder.
func NewEncoder() *Encoder { return &Encoder{window: windowSize, block: blockSize} }

// Encode writes what turns source, of sourceSize bytes and at most 1 GiB, into target, of
// size bytes.
func (e *Encoder) Encode(w io.Writer, source io.Reader, sourceSize int64, target io.Reader, size int64) error {
	e.w, e.source, e.size = w, source, sourceSize
	e.win, e.base, e.shift, e.pos, e.held = e.win[:0], 0, 0, 0, op{}
	e.index.reset(min(sourceSize, e.window))
	for i := range e.section.columns {
		e.section.columns[i] = e.section.columns[i][:0]
	}
	for done := int64(0); done < size; {
		n := min(e.block, size-done)
		if int64(cap(e.target)) < n {
			e.target = make([]byte, n)
		}
		e.target = e.target[:n]
		if _, err := io.ReadFull(target, e.target); err != nil {
			return fmt.Errorf("read new content: %w", err)
		}
		if err := e.slide(done, size); err != nil {
			return fmt.Errorf("read old content: %w", err)
		}
		if err := e.makeBlock(); err != nil {
			return err
		}
		done += n
		e.shift += n
	}
	return e.finish()
}

// slide moves the window to where the source is as far as the target is at done.
func (e *Encoder) slide(done, size int64) error {
	end := min(e.size, e.window)
	if e.size > e.window {
		middle := int64(float64(done) / float64(size) * float64(e.size))
		end = min(max(middle+e.window/2, end), e.size)
	}
	have := e.base + int64(len(e.win))
	if end <= have {
		return nil
	}
	if int64(cap(e.win)) < min(e.size, e.window) {
		e.win = make([]byte, 0, min(e.size, e.window))
	}
	if drop := end - e.window - e.base; drop > 0 {
		if err := e.drop(drop); err != nil {
			return err
		}
	}
	from := len(e.win)
	e.win = e.win[:end-e.base]
	if _, err := io.ReadFull(e.source, e.win[from:]); err != nil {
		return err
	}
	e.index.add(e.win, max(0, from-seedSize+1), e.base)
	return nil
}

// drop moves the start of the window by n bytes, some of which may not be read yet.
func (e *Encoder) drop(n int64) error {
	e.base += n
	held := min(n, int64(len(e.win)))
	e.win = e.win[:copy(e.win, e.win[held:])]
	_, err := io.CopyN(io.Discard, e.source, n-held)
	return err
}

// aligned is the part of the window that target[t:] is aligned with by a shift; it is
// as long as both are.
func (e *Encoder) aligned(t int, shift int64) []byte {
	at := int64(t) + shift - e.base
	if at < 0 || at >= int64(len(e.win)) {
		return nil
	}
	return e.win[at:min(int64(len(e.win)), at+int64(len(e.target)-t))]
}

// makeBlock finds the operations that make the block.
func (e *Encoder) makeBlock() error {
	for from, scan := 0, 0; from < len(e.target); {
		m := e.next(scan)
		forward := e.forward(from, m.at)
		if m.length == 0 {
			return e.emit(from, forward, len(e.target))
		}
		back := e.backward(from, m)
		if over := forward + back - (m.at - from); over > 0 {
			keep := e.split(m.at-back, over, m.shift)
			forward, back = forward-over+keep, back-keep
		}
		if err := e.emit(from, forward, m.at-back); err != nil {
			return err
		}
		from, scan, e.shift = m.at-back, m.at+m.length, m.shift
	}
	return nil
}

// emit makes target[from:to], the first forward bytes by copying at the present
// alignment, the rest by inserting.
func (e *Encoder) emit(from, forward, to int) error {
	for forward > 0 {
		n := min(forward, piece)
		at := int64(from) + e.shift
		if err := e.copyFrom(at, n); err != nil {
			return err
		}
		e.section.copy(e.win[at-e.base:at-e.base+int64(n)], e.target[from:from+n])
		from, forward = from+n, forward-n
	}
	for from < to {
		n := min(to-from, piece)
		if err := e.insert(n); err != nil {
			return err
		}
		e.section.insert(e.target[from : from+n])
		from += n
	}
	return nil
}

// copyFrom adds a copy to the operation that is held, or makes it the next one.
func (e *Encoder) copyFrom(at int64, n int) error {
	if h := &e.held; at != e.pos || h.inserted > 0 || h.copied == 0 || h.copied > piece {
		if err := e.release(); err != nil {
			return err
		}
		h.seek = at - e.pos
	}
	e.held.copied += uint64(n)
	e.pos = at + int64(n)
	return nil
}

// insert does the same with an insert.
func (e *Encoder) insert(n int) error {
	if e.held.inserted > piece {
		if err := e.release(); err != nil {
			return err
		}
	}
	e.held.inserted += uint64(n)
	return nil
}

// release writes the operation that is held, and the section once it is full.
func (e *Encoder) release() error {
	if h := e.held; h.copied+h.inserted > 0 {
		e.section.op(h)
	}
	e.held = op{}
	if e.section.size() < fullSection {
		return nil
	}
	return e.section.write(e.w)
}

// finish writes the last operation and the last section.
func (e *Encoder) finish() error {
	if err := e.release(); err != nil {
		return err
	}
	return e.section.write(e.w)
}
