// SPDX-License-Identifier: AGPL-3.0-or-later

package tusstore

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
)

// Left lists the uploads of a session that are not done, by name, as they lie in a state
// folder that no process has open. It changes nothing there.
func Left(dir, session string) ([]wire.Upload, error) {
	s := &Store{uploads: filepath.Join(dir, "uploads")}
	files, err := os.ReadDir(filepath.Join(s.uploads, session))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	left := []wire.Upload{} // [] and not null
	for _, f := range files {
		name, ok := uploadOfInfo(f.Name())
		if !ok || !f.Type().IsRegular() {
			continue
		}
		info, err := s.readInfo(session, name)
		if err != nil || info.Done {
			continue // a start drops what cannot be read
		}
		offset := info.Size // ingested, unless there is something that has not been
		if st, err := os.Stat(s.dataPath(session, name)); err == nil {
			offset = st.Size()
		} else if !isStaged(dir, name) {
			offset = 0
		}
		left = append(left, wire.Upload{Name: name, Offset: offset, Size: info.Size})
	}
	return left, nil
}

// isStaged tells whether the object is staged that an upload of this name brings.
func isStaged(dir, name string) bool {
	n, err := ostree.ParseName(name)
	if err != nil {
		return false
	}
	there, err := exists(filepath.Join(dir, "staged", "objects", n.Path()))
	return err == nil && there
}
