// SPDX-License-Identifier: AGPL-3.0-or-later

package ostree

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/lirios/ostree-upload/internal/gvariant"
)

// maxTarget is the longest target that a Linux symlink can have.
const maxTarget = 4095

var fileHeaderType = gvariant.MustParse("(tuuuusa(ayay))")

// FileHeader is the header of a filez object, GVariant (tuuuusa(ayay)).
type FileHeader struct {
	Size                 uint64 // of the inflated content, 0 for a symlink
	UID, GID, Mode, Rdev uint32 // Mode with its file type
	Target               string // of a symlink, "" for a regular file
	Xattrs               []Xattr
}

// FileHeader reads the header of a content object. That of a bare repository is
// made of what the file system says, and not compared with the checksum.
func (r *Repo) FileHeader(n Name) (FileHeader, error) {
	at, path, info, err := r.find(n)
	if err != nil {
		return FileHeader{}, err
	}
	if at.mode != ModeArchive {
		h, err := at.bareHeader(n, path, info)
		if err != nil {
			return FileHeader{}, err
		}
		return *h, nil
	}
	f, err := openFile(context.Background(), path) // a header is short
	if err != nil {
		return FileHeader{}, fmt.Errorf("object %s: %w", n, err)
	}
	defer f.Close()
	h, _, err := readFilezHeader(f, nil)
	var limit unfitError
	if errors.As(err, &limit) {
		return h, unfit(n, err)
	}
	if err != nil {
		return h, fmt.Errorf("object %s: %w", n, err)
	}
	return h, nil
}

// readFilezHeader reads and checks all that comes before the deflate stream. It
// returns the header also as it is serialised, in buf or what that had to grow to.
// An error that is not r's says what is wrong with the object.
func readFilezHeader(r io.Reader, buf []byte) (h FileHeader, raw []byte, err error) {
	var head [8]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return h, buf, errShort(err, "it ends before its header")
	}
	if be32(head[4:]) != 0 {
		return h, buf, errors.New("the padding before its header is not zero")
	}
	length := be32(head[:])
	if length > maxFilezHeader {
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
// means that it is not in normal form, or that OSTree stores no such file.
func parseFileHeader(b []byte) (FileHeader, error) {
	if err := checkMetadata(fileHeaderType, b, "a filez header's (tuuuusa(ayay))"); err != nil {
		return FileHeader{}, err
	}
	var m [7][]byte
	fileHeaderType.Members(b, m[:])
	h := FileHeader{
		Size: be64(m[0]), UID: be32(m[1]), GID: be32(m[2]), Mode: be32(m[3]), Rdev: be32(m[4]),
		Target: gvariant.String(m[5]),
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
	if h.Size > math.MaxInt64 {
		return fmt.Errorf("size says %d, more than any file has", h.Size)
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

// appendContentHeader appends the bytes that the content checksum starts with: the
// length of the (uuuusa(ayay)) header as BE32, 4 zero bytes, and that header. It is
// the filez header b without the size, which is its first 8 bytes.
func appendContentHeader(dst, b []byte) []byte {
	const size, numbers = 8, 4 * 4 // uid, gid, mode, rdev
	var m [7][]byte
	fileHeaderType.Members(b, m[:])
	target := numbers + len(m[5])
	body := target + len(m[6])
	start := len(dst) + 8
	dst = append(dst, make([]byte, 8)...)
	dst = append(dst, b[size:size+body]...)
	dst = gvariant.AppendOffsets(dst, body, target)
	binary.BigEndian.PutUint32(dst[start-8:], uint32(len(dst)-start))
	return dst
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
	b = gvariant.AppendOffsets(b, len(b), target)
	dst = be.AppendUint32(dst, uint32(len(b)))
	dst = append(dst, 0, 0, 0, 0)
	return append(dst, b...)
}
