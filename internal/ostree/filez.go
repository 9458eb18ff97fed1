// SPDX-License-Identifier: AGPL-3.0-or-later

package ostree

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// maxTarget is the longest target that a Linux symlink can have.
const maxTarget = 4095

// FileHeader is the header of a filez object, GVariant (tuuuusa(ayay)).
type FileHeader struct {
	Size                 uint64 // of the inflated content, 0 for a symlink
	UID, GID, Mode, Rdev uint32 // Mode with its file type
	Target               string // of a symlink, "" for a regular file
	Xattrs               []Xattr
}

// readFilezHeader reads and checks what stands before the deflate stream. It puts
// the serialised header into buf, which it returns grown. An error that is not
// r's says what is wrong with the object.
func readFilezHeader(r io.Reader, buf []byte) (h FileHeader, raw []byte, err error) {
	var head [8]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return h, buf, errShort(err, "it ends before its header")
	}
	if !allZero(head[4:]) {
		return h, buf, errors.New("the padding before its header is not zero")
	}
	length := be32(head[:])
	if length > MaxMetadata {
		return h, buf, fmt.Errorf("its header of %d bytes is too large", length)
	}
	raw, err = readAtMost(buf[:0], r, int(length))
	if err != nil {
		return h, raw, err
	}
	if len(raw) < int(length) {
		return h, raw, errors.New("it ends within its header")
	}
	h, err = parseFileHeader(raw)
	return h, raw, err
}

// errShort puts a reason in place of the io package's words for an early end.
func errShort(err error, reason string) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return errors.New(reason)
	}
	return err
}

// parseFileHeader reads a filez header, without the length before it. An error
// means that it is not in normal form, or describes no file that OSTree stores.
func parseFileHeader(b []byte) (FileHeader, error) {
	if err := checkMetadata(fileHeaderType, b, "a filez header's (tuuuusa(ayay))"); err != nil {
		return FileHeader{}, err
	}
	var m [7][]byte
	members(fileHeaderType, b, m[:])
	h := FileHeader{
		Size: be64(m[0]), UID: be32(m[1]), GID: be32(m[2]), Mode: be32(m[3]), Rdev: be32(m[4]),
		Target: str(m[5]),
	}
	var err error
	if h.Xattrs, err = readXattrs(m[6]); err != nil {
		return FileHeader{}, err
	}
	return h, h.check()
}

func (h *FileHeader) check() error {
	if h.Rdev != 0 {
		return fmt.Errorf("rdev is %d, not 0", h.Rdev)
	}
	switch h.Mode &^ modePerm {
	case modeRegular:
		if h.Target != "" {
			return errors.New("a regular file has a symlink target")
		}
	case modeSymlink:
		return h.checkSymlink()
	default:
		return fmt.Errorf("mode %#o is neither a regular file's nor a symlink's", h.Mode)
	}
	return nil
}

func (h *FileHeader) checkSymlink() error {
	switch {
	case h.Target == "":
		return errors.New("a symlink has no target")
	case len(h.Target) > maxTarget:
		return fmt.Errorf("a symlink's target has %d bytes, more than %d", len(h.Target), maxTarget)
	case h.Size != 0:
		return fmt.Errorf("a symlink's size is %d, not 0", h.Size)
	}
	return nil
}

// symlink reports whether the header is a symlink's.
func (h *FileHeader) symlink() bool { return h.Mode&modeType == modeSymlink }

// appendContentHeader appends what the content checksum starts with: the length
// of the (uuuusa(ayay)) header as BE32, 4 zero bytes, and that header. It is the
// filez header b, in normal form, without the size: its first 8 bytes, and so
// every framing offset less 8.
func appendContentHeader(dst, b []byte) []byte {
	width := offsetWidth(len(b))
	body := b[8 : len(b)-width]
	target := readOffset(b[len(b)-width:], width) - 8
	dst = binary.BigEndian.AppendUint32(dst, uint32(framedSize(len(body), 1)))
	dst = append(dst, 0, 0, 0, 0)
	dst = append(dst, body...)
	return appendOffsets(dst, len(body), []int{target})
}

// appendFilezHeader appends the start of a filez object: BE32 length, 4 zero
// bytes, and the (tuuuusa(ayay)) header.
func appendFilezHeader(dst []byte, h *FileHeader) []byte {
	be := binary.BigEndian
	b := be.AppendUint64(nil, h.Size)
	for _, u := range []uint32{h.UID, h.GID, h.Mode, h.Rdev} {
		b = be.AppendUint32(b, u)
	}
	b = append(append(b, h.Target...), 0)
	target := len(b)
	b = append(b, writeXattrs(h.Xattrs)...)
	b = appendOffsets(b, len(b), []int{target})
	dst = be.AppendUint32(dst, uint32(len(b)))
	dst = append(dst, 0, 0, 0, 0)
	return append(dst, b...)
}
