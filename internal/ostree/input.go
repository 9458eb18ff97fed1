// SPDX-License-Identifier: AGPL-3.0-or-later

package ostree

import (
	"bytes"
	"io"
)

// input hands out an object's bytes: those of a bytes.Reader as they lie in
// memory, those of other readers piece by piece.
type input struct {
	buf []byte // bytes at hand, from pos on
	pos int
	r   io.Reader // where more come from; nil if none do
	own []byte    // buffer for pieces
	err error     // why r failed, to tell a reader's fault from an object's
}

// pieceSize balances calls to the reader against the caches.
const pieceSize = 64 << 10

// open starts on r. A bytes.Reader is drained at once, without a copy.
func (in *input) open(r io.Reader) {
	in.buf, in.pos, in.r, in.err = nil, 0, r, nil
	if b, ok := r.(*bytes.Reader); ok {
		_, _ = b.WriteTo((*drain)(in))
		in.r = nil
	}
}

// drain takes the slice that a bytes.Reader writes.
type drain input

func (d *drain) Write(p []byte) (int, error) {
	d.buf = p
	return len(p), nil
}

// close lets go of the caller's bytes.
func (in *input) close() { in.buf, in.pos, in.r = nil, 0, nil }

// more gets the next piece when all bytes at hand are used up; it reports
// whether there is one.
func (in *input) more() bool {
	if in.r == nil || in.err != nil {
		return false
	}
	if in.own == nil {
		in.own = make([]byte, pieceSize)
	}
	for range 100 {
		n, err := in.r.Read(in.own)
		in.buf, in.pos = in.own[:n], 0
		switch {
		case err == io.EOF:
			in.r = nil
		case err != nil:
			in.err = err
		}
		if n > 0 || err != nil {
			return n > 0
		}
	}
	in.err = io.ErrNoProgress
	return false
}

// Read implements io.Reader.
func (in *input) Read(p []byte) (int, error) {
	if in.atEnd() {
		if in.err != nil {
			return 0, in.err
		}
		return 0, io.EOF
	}
	n := copy(p, in.buf[in.pos:])
	in.pos += n
	return n, nil
}

// atEnd reports whether no byte is left; also when the reader failed.
func (in *input) atEnd() bool { return in.pos == len(in.buf) && !in.more() }
