// SPDX-License-Identifier: AGPL-3.0-or-later

package encode

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/klauspost/compress/zstd"

	"github.com/lirios/ostree-upload/internal/ostree"
)

// A Reader reads the frames of a pack, and is the payload of the present one.
type Reader struct {
	file   *failing
	stream *zstd.Decoder
	in     *bufio.Reader
	left   uint64 // of the payload
	all    int64  // bytes inflated
	frames int
	err    error // why the pack ends; it stays
}

// NewReader makes a Reader.
func NewReader() (*Reader, error) {
	stream, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(MaxWindow), zstd.WithDecoderMaxMemory(MaxInflated))
	return &Reader{stream: stream, in: bufio.NewReaderSize(nil, 64<<10)}, err
}

// Reset starts to read a pack. The error is ErrNoPack, or that of r.
func (r *Reader) Reset(file io.Reader) error {
	r.left, r.all, r.frames, r.err = 0, 0, 0, nil
	magic := make([]byte, len(Magic))
	if _, err := io.ReadFull(file, magic); err != nil && !ended(err) {
		return err
	}
	if string(magic) != Magic {
		return ErrNoPack
	}
	r.file = &failing{r: file}
	if err := r.stream.Reset(r.file); err != nil {
		return err
	}
	r.in.Reset((*inflated)(r))
	return nil
}

// Close frees the memory.
func (r *Reader) Close() { r.stream.Close() }

func ended(err error) bool { return err == io.EOF || err == io.ErrUnexpectedEOF }

// failing notes when the file cannot be read, which is no fault of the pack.
type failing struct {
	r   io.Reader
	err error
}

func (f *failing) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	if err != nil && err != io.EOF {
		f.err = err
	}
	return n, err
}

// inflated is the stream, up to MaxInflated.
type inflated Reader

func (r *inflated) Read(p []byte) (int, error) {
	n, err := r.stream.Read(p)
	if r.all += int64(n); r.all > MaxInflated {
		return 0, ErrInflated
	}
	if err != nil && r.file.err != nil {
		err = r.file.err
	}
	return n, err
}

// Next skips what is left of the present frame and reads the head of the next one.
// It is false at the end of the pack, and where nothing can be read any more: Err and
// Failed tell which.
func (r *Reader) Next() (f Frame, ok bool) {
	for r.err == nil && r.left > 0 {
		r.skip()
	}
	if r.err != nil {
		return f, false
	}
	head := make([]byte, 2+len(f.Name.Checksum))
	if n, err := io.ReadFull(r.in, head); err != nil {
		if n > 0 || err != io.EOF {
			r.end(err)
		} else {
			r.err = io.EOF
		}
		return f, false
	}
	f.Name.Type, f.Encoding = ostree.Type(head[0]), head[1]
	copy(f.Name.Checksum[:], head[2:])
	length, err := uvarint(r.in)
	r.frames++
	switch {
	case err != nil:
		r.end(err)
	case !f.Name.Type.Valid():
		r.err = fmt.Errorf("frame of unknown type %d", head[0])
	case length > MaxInflated:
		r.err = fmt.Errorf("frame of %s is longer than %d bytes", f.Name, MaxInflated)
	case r.frames > MaxFrames:
		r.err = ErrFrames
	}
	f.Length, r.left = length, length
	return f, r.err == nil
}

// uvarint reads a number. One of more than 63 bits counts as the largest.
func uvarint(in io.ByteReader) (n uint64, err error) {
	for shift := 0; shift < 63; shift += 7 {
		b, err := in.ReadByte()
		if err != nil {
			return 0, err
		}
		n |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return n, nil
		}
	}
	return math.MaxUint64, nil
}

// skip drops some of the payload.
func (r *Reader) skip() {
	n, err := r.in.Discard(int(min(r.left, 1<<20)))
	r.left -= uint64(n)
	if err != nil {
		r.end(err)
	}
}

// end notes why nothing more can be read.
func (r *Reader) end(err error) {
	switch {
	case r.file.err != nil:
		r.err = r.file.err
	case errors.Is(err, ErrInflated):
		r.err = ErrInflated
	case ended(err):
		r.err = errCut
	default:
		r.err = errDamaged
	}
}

// Read reads the payload, to io.EOF at its end.
func (r *Reader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	if r.left == 0 {
		return 0, io.EOF
	}
	n, err := r.in.Read(p[:min(uint64(len(p)), r.left)])
	r.left -= uint64(n)
	if err != nil {
		r.end(err)
		return n, r.err
	}
	return n, nil
}

// ReadByte implements io.ByteReader.
func (r *Reader) ReadByte() (byte, error) {
	if r.err != nil {
		return 0, r.err
	}
	if r.left == 0 {
		return 0, io.EOF
	}
	b, err := r.in.ReadByte()
	if err != nil {
		r.end(err)
		return 0, r.err
	}
	r.left--
	return b, nil
}

// Left is how many bytes of the payload were not read.
func (r *Reader) Left() uint64 { return r.left }

// Err is why the pack ended before its end, or nil. The frame that was being read then
// is not whole.
func (r *Reader) Err() error {
	if r.err == io.EOF {
		return nil
	}
	return r.err
}

// Failed is why the file could not be read, or nil.
func (r *Reader) Failed() error {
	if r.file == nil {
		return nil
	}
	return r.file.err
}

// End ends the pack for a reason of the caller's.
func (r *Reader) End(err error) { r.err = err }

// Source reads the head of a difference's payload; its header and sections follow. The
// error says what is wrong with it, unless the pack ends there.
func (r *Reader) Source() (s Source, err error) {
	for _, sum := range [][]byte{s.Checksum[:], s.Commit[:]} {
		if _, err := io.ReadFull(r, sum); err != nil {
			return s, errNoSourceNamed
		}
	}
	size, err := uvarint(r)
	if err != nil {
		return s, errNoSourceNamed
	}
	if size > MaxSource {
		return s, fmt.Errorf("its source is said to have %d bytes, more than %d", size, int64(MaxSource))
	}
	s.Size = int64(size)
	return s, nil
}

var errNoSourceNamed = errors.New("its difference does not say of which content it is")
