// SPDX-License-Identifier: AGPL-3.0-or-later

package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/lirios/ostree-upload/internal/ostree"
)

// PackMagic starts every pack.
const PackMagic = "OSTPACK1"

// MaxFrameHeader is the most bytes that AppendFrameHeader appends.
const MaxFrameHeader = 1 + 1 + 32 + binary.MaxVarintLen64

// EncodingArchive says that a payload is the object's bytes as an archive
// repository stores them. It is the only encoding.
const EncodingArchive = 0

// ErrNoPack says that an upload does not begin with PackMagic.
var ErrNoPack = errors.New("no pack: it does not begin with " + PackMagic)

// A Frame is one object in a pack. Payload shares memory with the pack.
type Frame struct {
	Name     ostree.Name
	Encoding byte
	Payload  []byte
}

// AppendFrameHeader appends what stands in a pack before n's payload of length
// bytes: type, encoding, checksum and the length as unsigned varint.
func AppendFrameHeader(dst []byte, n ostree.Name, length int64) []byte {
	dst = append(dst, byte(n.Type), EncodingArchive)
	dst = append(dst, n.Checksum[:]...)
	return binary.AppendUvarint(dst, uint64(length))
}

// A PackReader walks the frames of a pack, or of the first bytes of one.
type PackReader struct {
	rest []byte
	err  error
}

// ReadPack starts to read the pack in b; the error is ErrNoPack.
func ReadPack(b []byte) (*PackReader, error) {
	rest, ok := bytes.CutPrefix(b, []byte(PackMagic))
	if !ok {
		return nil, ErrNoPack
	}
	return &PackReader{rest: rest}, nil
}

// Next returns the next whole frame. It is false at the end, and at the first
// frame whose type or length cannot be: nothing behind it can be trusted to be
// a frame. Err tells the two apart.
func (r *PackReader) Next() (Frame, bool) {
	if len(r.rest) == 0 || r.err != nil {
		return Frame{}, false
	}
	f, n, err := frame(r.rest)
	if err != nil {
		r.err = err
		return Frame{}, false
	}
	r.rest = r.rest[n:]
	return f, true
}

// Err is why Next stopped before the end of the pack, or nil.
func (r *PackReader) Err() error { return r.err }

// frame reads one frame at the start of b and tells its length.
func frame(b []byte) (f Frame, size int, err error) {
	const fixed = 2 + len(f.Name.Checksum)
	if len(b) < fixed {
		return f, 0, errors.New("pack ends within a frame header")
	}
	f.Name.Type, f.Encoding = ostree.Type(b[0]), b[1]
	copy(f.Name.Checksum[:], b[2:])
	if !f.Name.Type.Valid() {
		return f, 0, fmt.Errorf("frame of unknown type %d", b[0])
	}
	length, n := binary.Uvarint(b[fixed:])
	switch {
	case n == 0:
		return f, 0, errors.New("pack ends within a frame header")
	case n < 0 || length > MaxPackPayload:
		return f, 0, fmt.Errorf("frame of %s is longer than %d bytes", f.Name, MaxPackPayload)
	}
	head := fixed + n
	if uint64(len(b)-head) < length {
		return f, 0, fmt.Errorf("pack ends within the frame of %s", f.Name)
	}
	size = head + int(length)
	f.Payload = b[head:size:size]
	return f, size, nil
}
