// SPDX-License-Identifier: AGPL-3.0-or-later

package ostree

import (
	"bytes"
	"fmt"
	"slices"
)

// maxXattr is the most bytes of an extended attribute's value (XATTR_SIZE_MAX).
const maxXattr = 64 << 10

// StorableIn says what a repository of that mode would lose of content with this
// header; nil means nothing.
func (h *FileHeader) StorableIn(mode string) error {
	switch mode {
	case ModeBareUser: // all of it goes into one attribute, user.ostreemeta
		if size := 3*4 + len(writeXattrs(h.Xattrs)); size > maxXattr {
			return fmt.Errorf("its extended attributes take %d bytes, and a %s repository keeps at most %d", size, mode, maxXattr)
		}
	case ModeBareUserOnly:
		return h.canonical()
	case ModeBare:
		for _, x := range h.Xattrs {
			if len(x.Value) > maxXattr {
				return fmt.Errorf("its extended attribute %s has %d bytes, and Linux takes at most %d", clip(string(x.Name)), len(x.Value), maxXattr)
			}
		}
		// Read back, they come sorted, and the checksum would be another.
		sorted := slices.IsSortedFunc(h.Xattrs, func(a, b Xattr) int { return bytes.Compare(a.Name, b.Name) })
		if !sorted {
			return fmt.Errorf("its extended attributes are not sorted, which a %s repository cannot keep", mode)
		}
		// libostree leaves those out when it reads a file back.
		if slices.ContainsFunc(h.Xattrs, func(x Xattr) bool { return len(x.Value) == 0 }) {
			return fmt.Errorf("it has an extended attribute of empty value, which a %s repository cannot keep", mode)
		}
	}
	return nil
}

// canonical says what the content has beyond what bare-user-only keeps, which is
// its type, its bytes and the lower permission bits.
func (h *FileHeader) canonical() error {
	const kept = 0o775
	switch {
	case h.UID != 0 || h.GID != 0:
		return fmt.Errorf("it belongs to %d:%d, and a %s repository keeps only 0:0", h.UID, h.GID, ModeBareUserOnly)
	case len(h.Xattrs) > 0:
		return fmt.Errorf("it has extended attributes, which a %s repository does not keep", ModeBareUserOnly)
	case h.symlink() && h.Mode&modePerm != 0o777:
		return fmt.Errorf("the symlink has mode %#o, and a %s repository keeps only 0777", h.Mode&modePerm, ModeBareUserOnly)
	case !h.symlink() && h.Mode&modePerm&^kept != 0:
		return fmt.Errorf("it has mode %#o, and a %s repository keeps only bits of %#o", h.Mode&modePerm, ModeBareUserOnly, kept)
	}
	return nil
}
