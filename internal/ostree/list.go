// SPDX-License-Identifier: AGPL-3.0-or-later

package ostree

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Folders is how many folders objects/ has: one for each first byte of a checksum.
const Folders = 256

// ObjectFolder is the folder of the objects whose checksum begins with a byte.
func (r *Repo) ObjectFolder(first byte) string {
	return filepath.Join(r.path, "objects", fmt.Sprintf("%02x", first))
}

// Listed lists the objects whose checksum begins with a byte, in the repository
// itself and not in its parents, in no order. Detached metadata is not listed: it
// belongs to its commit. Nor is what else libostree keeps there, such as tombstones.
func (r *Repo) Listed(first byte) (names []Name, err error) {
	folder, err := os.Open(r.ObjectFolder(first))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer folder.Close()
	files, err := folder.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	prefix := fmt.Sprintf("%02x", first)
	for _, file := range files {
		if n, ok := r.nameOf(prefix + file); ok && n.Type != CommitMeta {
			names = append(names, n)
		}
	}
	return names, nil
}

// nameOf is the object that is kept in a file of this name, without the slash.
func (r *Repo) nameOf(file string) (Name, bool) {
	if r.mode != ModeArchive {
		stem, suffix, _ := strings.Cut(file, ".")
		switch suffix {
		case "filez":
			return Name{}, false // of a cache that older versions kept
		case "file":
			file = stem + ".filez"
		}
	}
	n, err := ParseName(file)
	return n, err == nil
}

// Stored is what lstat says of the file in which this repository itself has an
// object. The error wraps fs.ErrNotExist if it has none.
func (r *Repo) Stored(n Name) (fs.FileInfo, error) { return os.Lstat(r.objectPath(n)) }
