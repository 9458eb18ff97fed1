// SPDX-License-Identifier: AGPL-3.0-or-later

package ostree

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"math"

	"github.com/lirios/ostree-upload/internal/inflate"
)

// pad keeps what two workers write in different cache lines (and in different
// pairs of them, which Intel fetches together). Without it, workers whose state
// shares a line verify a quarter slower.
type pad [128]byte

// A Verifier checks objects in archive form, one at a time. It keeps its
// buffers, about 200 KiB: make one for each worker and reuse it. Its memory does
// not grow with the size of content, only with that of metadata: by the limit
// while it verifies, and by CommonMetadata at most afterwards.
type Verifier struct {
	_       pad
	in      inflate.Input
	limit   int64
	most    int // bytes of metadata
	sum     hash.Hash
	step    func() error
	stopped error  // what step returned
	meta    []byte // a metadata object that did not come in memory
	header  []byte // a filez header
	content []byte // the content header made from it
	chunk   []byte // of content that a bare repository holds
	inflate inflate.Inflater
	_       pad
}

// NewVerifier makes a Verifier that refuses content of more than maxObjectSize
// bytes, inflated; 0 is no limit. Metadata may have CommonMetadata bytes.
func NewVerifier(maxObjectSize int64) *Verifier {
	return &Verifier{limit: maxObjectSize, most: CommonMetadata, sum: sha256.New()}
}

// Limit changes the size limit, for the objects verified from now on.
func (v *Verifier) Limit(maxObjectSize int64) { v.limit = maxObjectSize }

// LimitMetadata changes how many bytes a metadata object may have, at most
// MaxMetadata.
func (v *Verifier) LimitMetadata(most int64) { v.most = int(min(most, MaxMetadata)) }

// Step has f called again and again while an object is verified, about once for
// 64 KiB of it, stored or inflated. An error of f ends the verification, which
// returns it.
func (v *Verifier) Step(f func() error) { v.step = f }

// Verify reads r to its end and checks that it is object n, whole and nothing
// else: its checksum, and what no checksum covers (the filez header's size and
// form, the end of the deflate stream, the rules of each type). Detached
// metadata has no checksum; only its form is checked. It returns a
// *BadObjectError if the object is bad, and any other error if r failed.
// Inflated counts the content's inflated bytes, of metadata its bytes; it tells
// how much was looked at if there is an error.
func (v *Verifier) Verify(n Name, r io.Reader) (inflated int64, err error) {
	if !n.Type.Valid() {
		return 0, &BadObjectError{Object: n, Reason: "its type is unknown"}
	}
	v.stopped = nil
	if _, inMemory := r.(*bytes.Reader); !inMemory && v.step != nil {
		r = steppedReader{v, r}
	}
	v.in.Open(r)
	defer v.in.Close()
	if n.Type == File {
		inflated, err = v.verifyFile(n)
	} else {
		inflated, err = v.verifyMetadata(n)
	}
	if v.stopped != nil {
		return inflated, v.stopped
	}
	if failed := v.in.Err(); failed != nil {
		return inflated, fmt.Errorf("read object %s: %w", n, failed)
	}
	if err != nil {
		var unfit unfitError
		return inflated, &BadObjectError{Object: n, Reason: err.Error(), Unfit: errors.As(err, &unfit)}
	}
	return inflated, nil
}

// takeStep calls step, until that wants to stop, and notes why.
func (v *Verifier) takeStep() error {
	if v.stopped == nil {
		v.stopped = v.step()
	}
	return v.stopped
}

// steppedReader takes a step before each piece that is read.
type steppedReader struct {
	v *Verifier
	r io.Reader
}

func (s steppedReader) Read(p []byte) (int, error) {
	if err := s.v.takeStep(); err != nil {
		return 0, err
	}
	return s.r.Read(p)
}

// output is where inflated content goes.
func (v *Verifier) output() io.Writer {
	if v.step == nil {
		return v.sum
	}
	return (*steppedSum)(v)
}

// steppedSum takes a step before each piece that is hashed.
type steppedSum Verifier

func (s *steppedSum) Write(p []byte) (int, error) {
	v := (*Verifier)(s)
	if err := v.takeStep(); err != nil {
		return 0, err
	}
	return v.sum.Write(p)
}

func (v *Verifier) verifyMetadata(n Name) (int64, error) {
	most, limit := v.most, "max-metadata-size"
	if n.Type == CommitMeta {
		most, limit = MaxCommitMeta, "detached metadata"
	}
	b, err := v.allInput(most + 1)
	if err != nil {
		return int64(len(b)), err
	}
	if len(b) > most {
		return int64(len(b)), fmt.Errorf("it is larger than %d bytes (%s)", most, limit)
	}
	if n.Type != CommitMeta {
		if sum := Checksum(sha256.Sum256(b)); sum != n.Checksum {
			return int64(len(b)), fmt.Errorf("its checksum is %s", sum)
		}
	}
	return int64(len(b)), parseMetadata(n.Type, b)
}

// allInput returns all of the input, in place if that is in memory. From a reader
// it reads no more than is enough.
func (v *Verifier) allInput(enough int) ([]byte, error) {
	if b, ok := v.in.InMemory(); ok {
		return b, nil
	}
	b, err := readAtMost(v.meta[:0], &v.in, enough)
	if v.meta = b; cap(b) > CommonMetadata+1 {
		v.meta = nil // rare, and too much to keep for the next one
	}
	return b, err
}

func parseMetadata(t Type, b []byte) (err error) {
	switch t {
	case CommitObject:
		_, err = ParseCommit(b)
	case DirTree:
		_, err = parseDirTree(b)
	case DirMeta:
		_, err = parseDirMeta(b)
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

func (v *Verifier) verifyFile(n Name) (int64, error) {
	h, raw, err := readFilezHeader(&v.in, v.header)
	v.header = raw
	if err != nil {
		return 0, err
	}
	if err := v.checkSize(h.Size); err != nil {
		return 0, err
	}
	v.content = appendContentHeader(v.content[:0], raw)
	v.sum.Reset()
	v.sum.Write(v.content)
	inflated, err := v.readContent(&h)
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

func (v *Verifier) checkSize(size uint64) error {
	if v.limit > 0 && size > uint64(v.limit) {
		return fmt.Errorf("size says %d, more than the %d that an object may have (max-object-size)", size, v.limit)
	}
	if size > math.MaxInt64-1 {
		return fmt.Errorf("size says %d, which is no size", size)
	}
	return nil
}

// emptyDeflate is the deflate stream of an empty file as zlib writes it.
var emptyDeflate = [2]byte{0x03, 0x00}

func (v *Verifier) readContent(h *FileHeader) (int64, error) {
	switch {
	case h.symlink():
		if !v.in.AtEnd() {
			return 0, errors.New("something follows a symlink's header")
		}
		return 0, nil
	case h.Size == 0:
		return 0, v.readEmpty()
	}
	got, err := v.inflate.Inflate(&v.in, v.output(), int64(h.Size))
	switch {
	case err == inflate.ErrTooLong:
		return got, fmt.Errorf("size says %d, its content is longer", h.Size)
	case err != nil:
		return got, err
	case got != int64(h.Size):
		return got, fmt.Errorf("size says %d, content has %d bytes", h.Size, got)
	}
	return got, nil
}

func (v *Verifier) readEmpty() error {
	var b [2]byte
	if _, err := io.ReadFull(&v.in, b[:]); err != nil {
		return inflate.ErrCut
	}
	if b != emptyDeflate {
		return errors.New("size says 0, but its content is not the empty deflate stream 03 00")
	}
	if !v.in.AtEnd() {
		return inflate.ErrFollows
	}
	return nil
}
