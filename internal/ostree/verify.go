// SPDX-License-Identifier: AGPL-3.0-or-later

package ostree

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"math"

	"github.com/klauspost/compress/flate"
)

// pad keeps what two workers write in different cache lines (and in different
// pairs of them, which Intel fetches together). Without it, workers whose
// readers share a line verify a quarter slower.
type pad [128]byte

// A Verifier checks objects in archive form, one at a time. It keeps its
// buffers: make one for each worker and reuse it. Its memory does not grow with
// the size of content, only with that of metadata.
type Verifier struct {
	_       pad
	bytes   bytes.Reader // the input, if it was in memory
	buffer  bufio.Reader // the input otherwise
	source  source
	inflate io.ReadCloser // flate reads from bytes or buffer directly: they are io.ByteReaders
	sum     hash.Hash
	sink    sink
	limit   int64
	meta    []byte
	header  []byte // a filez header
	content []byte // the content header made from it
	chunk   []byte
	_       pad
}

// NewVerifier makes a Verifier that refuses content of more than maxObjectSize
// bytes, inflated; 0 is no limit.
func NewVerifier(maxObjectSize int64) *Verifier {
	v := &Verifier{
		limit: maxObjectSize,
		sum:   sha256.New(),
		chunk: make([]byte, 512),
	}
	v.buffer = *bufio.NewReaderSize(nil, 64<<10)
	v.inflate = flate.NewReader(bytes.NewReader(nil))
	v.sink.sum = v.sum
	return v
}

// source remembers why reading failed, to tell a reader's fault from an
// object's.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// input is what flate reads byte by byte, and so never beyond its stream.
type input interface {
	io.Reader
	io.ByteReader
}

// Verify reads r to its end and checks that it is object n, in the sense of the
// design's section 7. It returns a *BadObjectError if the object is bad, and
// any other error if r failed. Inflated counts the content's inflated bytes, of
// metadata its bytes; it tells how much was looked at if there is an error.
func (v *Verifier) Verify(n Name, r io.Reader) (inflated int64, err error) {
	if !n.Type.Valid() {
		return 0, &BadObjectError{Object: n, Reason: "its type is unknown"}
	}
	v.source = source{}
	in := v.open(r)
	defer v.close(r)
	if n.Type == File {
		inflated, err = v.verifyFile(n, in)
	} else {
		inflated, err = v.verifyMetadata(n, in)
	}
	if err == nil {
		return inflated, nil
	}
	if v.source.err != nil {
		return inflated, fmt.Errorf("reading object %s: %w", n, v.source.err)
	}
	return inflated, &BadObjectError{Object: n, Reason: err.Error()}
}

// open chooses how to read r. The state of a reader in memory is copied into
// the Verifier, since the caller's may lie next to another worker's.
func (v *Verifier) open(r io.Reader) input {
	if b, ok := r.(*bytes.Reader); ok {
		v.bytes = *b
		return &v.bytes
	}
	v.source.r = r
	v.buffer.Reset(&v.source)
	return &v.buffer
}

// close leaves the caller's reader where ours is, and drops what would keep the
// caller's bytes alive.
func (v *Verifier) close(r io.Reader) {
	if b, ok := r.(*bytes.Reader); ok {
		*b = v.bytes
		v.bytes.Reset(nil)
		return
	}
	v.source.r = nil
	v.buffer.Reset(nil)
}

func (v *Verifier) verifyMetadata(n Name, in io.Reader) (int64, error) {
	most := MaxMetadata
	if n.Type == CommitMeta {
		most = MaxCommitMeta
	}
	b, err := readAtMost(v.meta[:0], in, most+1)
	v.meta = b
	if err != nil {
		return int64(len(b)), err
	}
	if len(b) > most {
		return int64(len(b)), fmt.Errorf("it is larger than %d bytes", most)
	}
	if n.Type != CommitMeta {
		if sum := Checksum(sha256.Sum256(b)); sum != n.Checksum {
			return int64(len(b)), fmt.Errorf("its checksum is %s", sum)
		}
	}
	return int64(len(b)), parseMetadata(n.Type, b)
}

func parseMetadata(t Type, b []byte) (err error) {
	switch t {
	case CommitObject:
		_, err = ParseCommit(b)
	case DirTree:
		_, err = openTree(b)
	case DirMeta:
		_, err = ParseDirMeta(b)
	case CommitMeta:
		err = ParseCommitMeta(b)
	}
	return err
}

// readAtMost appends up to most bytes of r to dst, which grows as they come.
func readAtMost(dst []byte, r io.Reader, most int) ([]byte, error) {
	for len(dst) < most {
		if len(dst) == cap(dst) {
			dst = append(dst, 0)[:len(dst)]
		}
		n, err := r.Read(dst[len(dst):min(cap(dst), most)])
		dst = dst[:len(dst)+n]
		if err == io.EOF {
			return dst, nil
		}
		if err != nil {
			return dst, err
		}
	}
	return dst, nil
}

func (v *Verifier) verifyFile(n Name, in input) (int64, error) {
	h, err := v.readHeader(in)
	if err != nil {
		return 0, err
	}
	v.content = appendContentHeader(v.content[:0], v.header)
	v.sum.Reset()
	v.sum.Write(v.content)
	inflated, err := v.readContent(&h, in)
	if err != nil {
		return inflated, err
	}
	var sum Checksum
	v.sum.Sum(sum[:0])
	if sum != n.Checksum {
		return inflated, fmt.Errorf("its content checksum is %s", sum)
	}
	return inflated, nil
}

// readHeader reads and checks what stands before the deflate stream, and leaves
// the serialised header in v.header.
func (v *Verifier) readHeader(in io.Reader) (FileHeader, error) {
	head := v.chunk[:8]
	if _, err := io.ReadFull(in, head); err != nil {
		return FileHeader{}, errShort(err, "it ends before its header")
	}
	if !allZero(head[4:]) {
		return FileHeader{}, errors.New("the padding before its header is not zero")
	}
	length := binary.BigEndian.Uint32(head)
	if length > MaxMetadata {
		return FileHeader{}, fmt.Errorf("its header of %d bytes is too large", length)
	}
	b, err := readAtMost(v.header[:0], in, int(length))
	v.header = b
	if err != nil {
		return FileHeader{}, err
	}
	if len(b) < int(length) {
		return FileHeader{}, errors.New("it ends within its header")
	}
	h, err := parseFileHeader(b)
	if err != nil {
		return h, err
	}
	return h, v.checkSize(h.Size)
}

// errShort puts a reason in place of the io package's words for an early end.
// Whether the reader itself failed is known from v.source.
func errShort(err error, reason string) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return errors.New(reason)
	}
	return err
}

func (v *Verifier) checkSize(size uint64) error {
	if v.limit > 0 && size > uint64(v.limit) {
		return fmt.Errorf("size says %d, more than the %d that an object may have", size, v.limit)
	}
	if size > math.MaxInt64-1 {
		return fmt.Errorf("size says %d, which is no size", size)
	}
	return nil
}

// emptyDeflate is the deflate stream of an empty file as zlib writes it.
var emptyDeflate = [2]byte{0x03, 0x00}

func (v *Verifier) readContent(h *FileHeader, in input) (int64, error) {
	switch {
	case h.symlink():
		return 0, expectEnd(in, "something follows a symlink's header")
	case h.Size == 0:
		return 0, v.readEmpty(in)
	}
	inflated, err := v.inflateAll(int64(h.Size), in)
	if err != nil {
		return inflated, err
	}
	return inflated, expectEnd(in, "something follows its deflate stream")
}

func (v *Verifier) readEmpty(in input) error {
	b := v.chunk[:2]
	if _, err := io.ReadFull(in, b); err != nil {
		return errShort(err, "it ends before its content does")
	}
	if [2]byte(b) != emptyDeflate {
		return errors.New("size says 0, but its content is not the empty deflate stream 03 00")
	}
	return expectEnd(in, "something follows its deflate stream")
}

func expectEnd(in io.ByteReader, reason string) error {
	_, err := in.ReadByte()
	if err == nil {
		return errors.New(reason)
	}
	if err == io.EOF {
		return nil
	}
	return err
}

// inflateAll inflates exactly size bytes into the hash. It gives up on the first
// piece that exceeds size, at most flate's window (32 KiB) too late to matter.
func (v *Verifier) inflateAll(size int64, in input) (int64, error) {
	if err := v.inflate.(flate.Resetter).Reset(in, nil); err != nil {
		return 0, err
	}
	v.sink.count, v.sink.size = 0, size
	_, err := v.inflate.(io.WriterTo).WriteTo(&v.sink)
	got := v.sink.count
	switch {
	case errors.Is(err, errTooLong):
		return got, fmt.Errorf("size says %d, its content is longer", size)
	case err != nil:
		return got, fmt.Errorf("its deflate stream is damaged or cut short after %d bytes of content: %w", got, err)
	case got != size:
		return got, fmt.Errorf("size says %d, content has %d bytes", size, got)
	}
	return got, nil
}

var errTooLong = errors.New("longer than size says")

// sink hashes what is inflated, up to size bytes.
type sink struct {
	sum         hash.Hash
	count, size int64
}

func (s *sink) Write(p []byte) (int, error) {
	if int64(len(p)) > s.size-s.count {
		s.count = s.size + 1
		return 0, errTooLong
	}
	s.count += int64(len(p))
	return s.sum.Write(p)
}
