// SPDX-License-Identifier: AGPL-3.0-or-later

package inflate

import (
	"bytes"
	"io"
)

// Input hands out the bytes of a reader: those of a bytes.Reader in place, without
// a copy, those of others in pieces of 64 KiB. Its buffer stays for the next
// reader.
type Input struct {
	buf []byte // bytes at hand, from pos on
	pos int
	r   io.Reader // where more come from; nil if none do
	own []byte    // buffer for pieces
	err error     // why r failed
}

// pieceSize is large enough to call the reader rarely, and fits into a cache.
const pieceSize = 64 << 10

// Open starts to read r. A bytes.Reader is drained at once, without a copy.
func (in *Input) Open(r io.Reader) {
	in.buf, in.pos, in.r, in.err = nil, 0, r, nil
	if b, ok := r.(*bytes.Reader); ok {
		_, _ = b.WriteTo((*drain)(in))
		in.r = nil
	}
}

// drain takes the slice that a bytes.Reader writes.
type drain Input

func (d *drain) Write(p []byte) (int, error) {
	d.buf = p
	return len(p), nil
}

// Close lets go of the caller's bytes. It does not close the reader.
func (in *Input) Close() { in.buf, in.pos, in.r = nil, 0, nil }

// InMemory returns the bytes that are left if no reader has to be asked for them.
func (in *Input) InMemory() ([]byte, bool) { return in.buf[in.pos:], in.r == nil }

// Err is why the reader failed, or nil: a failing disk is told apart from bytes
// that are not what they should be.
func (in *Input) Err() error { return in.err }

// AtEnd reports whether no byte is left. That is also so when the reader failed.
func (in *Input) AtEnd() bool { return in.pos == len(in.buf) && !in.refill() }

// refill reads the next piece when all bytes at hand are used up. It reports
// whether there is one.
func (in *Input) refill() bool {
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
func (in *Input) Read(p []byte) (int, error) {
	if in.AtEnd() {
		if in.err != nil {
			return 0, in.err
		}
		return 0, io.EOF
	}
	n := copy(p, in.buf[in.pos:])
	in.pos += n
	return n, nil
}
