// SPDX-License-Identifier: AGPL-3.0-or-later

package ostree

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// badFile says why a file of a bare repository cannot be an object, as opposed
// to why it could not be read.
type badFile struct{ reason string }

func (e *badFile) Error() string { return e.reason }

// mismatch is the error of content that does not have its checksum, where this
// repository or this process may be unable to show all of it.
func (r *Repo) mismatch(n Name) error {
	switch {
	case r.mode == ModeBare && !r.disableXattrs && !seesTrusted():
		return &UnreadableError{Object: n, Reason: "what this user sees of it does not match its checksum; a bare repository may hold attributes (trusted.*) that only root sees"}
	case r.mode == ModeBareUserOnly:
		return &BadObjectError{Object: n, Reason: errMismatch + "; or its commit is not canonical " +
			"(owner 0:0, no extended attributes, mode within 0775), and this bare-user-only repository lost the rest"}
	}
	return &BadObjectError{Object: n, Reason: errMismatch}
}

// seesTrusted tells whether this process is shown attributes named trusted.*.
func seesTrusted() bool {
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var caps [2]unix.CapUserData
	err := unix.Capget(&head, &caps[0])
	return err == nil && caps[0].Effective&(1<<unix.CAP_SYS_ADMIN) != 0
}

// bareHeader makes the header that content of a bare repository has as filez, out
// of the file that it is stored in.
func (r *Repo) bareHeader(n Name, path string, info fs.FileInfo) (*FileHeader, error) {
	var h *FileHeader
	var err error
	switch r.mode {
	case ModeBareUser:
		h, err = bareUserHeader(path, info)
	case ModeBareUserOnly:
		h, err = statHeader(path, info)
		if err == nil {
			h.UID, h.GID = 0, 0
		}
	default:
		h, err = statHeader(path, info)
		if err == nil && !r.disableXattrs {
			h.Xattrs, err = allXattrs(path)
		}
	}
	var bad *badFile
	if errors.As(err, &bad) {
		return nil, &BadObjectError{Object: n, Reason: bad.Error()}
	}
	if err != nil {
		return nil, fmt.Errorf("object %s: %w", n, err)
	}
	if err := h.check(); err != nil {
		return nil, &BadObjectError{Object: n, Reason: err.Error()}
	}
	return h, nil
}

// statHeader takes owner and mode from the file itself, as bare and
// bare-user-only repositories do.
func statHeader(path string, info fs.FileInfo) (*FileHeader, error) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil, errors.New("this system does not tell a file's owner")
	}
	h := &FileHeader{UID: st.Uid, GID: st.Gid, Mode: st.Mode}
	switch st.Mode & modeType {
	case modeRegular:
		h.Size = uint64(info.Size())
	case modeSymlink:
		target, err := os.Readlink(path)
		if err != nil {
			return nil, err
		}
		h.Target = target
	}
	return h, nil
}

// bareUserHeader takes owner, mode and xattrs from the xattr user.ostreemeta of
// a file that anyone may own; a symlink is a file that holds the target.
func bareUserHeader(path string, info fs.FileInfo) (*FileHeader, error) {
	if !info.Mode().IsRegular() {
		return nil, &badFile{"it is not stored as a regular file"}
	}
	b, err := xattr(path, "user.ostreemeta")
	if errors.Is(err, unix.ENODATA) {
		return nil, &badFile{"it has no user.ostreemeta"}
	}
	if err != nil {
		return nil, err
	}
	m, err := parseFileMeta(b, "user.ostreemeta's (uuua(ayay))")
	if err != nil {
		return nil, &badFile{err.Error()}
	}
	h := &FileHeader{UID: m.UID, GID: m.GID, Mode: m.Mode, Xattrs: m.Xattrs}
	if !h.symlink() {
		h.Size = uint64(info.Size())
		return h, nil
	}
	if info.Size() > maxTarget {
		return nil, &badFile{"a symlink's target is too long"}
	}
	target, err := os.ReadFile(path)
	h.Target, _, _ = strings.Cut(string(target), "\x00") // as libostree, which reads it as a C string
	return h, err
}

// allXattrs reads a file's xattrs sorted by name, the order in which libostree
// puts them into what it hashes.
func allXattrs(path string) ([]Xattr, error) {
	names, err := withBuffer(func(b []byte) (int, error) { return unix.Llistxattr(path, b) })
	if errors.Is(err, unix.ENOTSUP) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing xattrs: %w", err)
	}
	var list []Xattr
	for name := range bytes.SplitSeq(names, []byte{0}) {
		if len(name) == 0 {
			continue
		}
		value, err := xattr(path, string(name))
		if errors.Is(err, unix.ENODATA) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if len(value) == 0 {
			continue // libostree hashes no xattr that has an empty value on disk
		}
		list = append(list, Xattr{Name: name, Value: value})
	}
	slices.SortFunc(list, func(a, b Xattr) int { return bytes.Compare(a.Name, b.Name) })
	return list, nil
}

func xattr(path, name string) ([]byte, error) {
	b, err := withBuffer(func(b []byte) (int, error) { return unix.Lgetxattr(path, name, b) })
	if err != nil {
		return nil, fmt.Errorf("read xattr %s: %w", name, err)
	}
	return b, nil
}

// withBuffer makes an xattr system call with larger and larger buffers until the
// result fits. Linux bounds lists and values at 64 KiB.
func withBuffer(call func([]byte) (int, error)) ([]byte, error) {
	for size := 1 << 10; ; size *= 8 {
		b := make([]byte, size)
		n, err := call(b)
		if err == nil {
			return b[:n:n], nil
		}
		if !errors.Is(err, unix.ERANGE) || size > 64<<10 {
			return nil, err
		}
	}
}
