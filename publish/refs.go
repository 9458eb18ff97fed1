// SPDX-License-Identifier: AGPL-3.0-or-later

package publish

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lirios/ostree-upload/internal/fault"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/journal"
)

// refMoves are the refs of a session, written under temporary names and ready to
// get their own. libostree would write and sync them one after the other, all
// under the exclusive lock; and with core.auto-update-summary it would write the
// summary, whatever the configuration says.
type refMoves struct {
	*repository
	folder string // of the temporary names
	refs   []wire.Ref
}

// refsPrefix is what the folders of temporary names begin with, in the
// repository's tmp/.
const refsPrefix = "ostree-upload-refs-"

// prepareRefs writes the new values of a session's refs. They are durable after the
// next sync. The caller drops what is left of them, also after an error.
func (r *repository) prepareRefs(s *journal.Session) (*refMoves, error) {
	m := &refMoves{repository: r, folder: filepath.Join(r.path, "tmp", refsPrefix+s.ID), refs: s.Refs}
	if err := m.drop(); err != nil { // from before a crash
		return m, err
	}
	if err := os.MkdirAll(m.folder, 0o777); err != nil {
		return m, err
	}
	for i, ref := range m.refs {
		if _, err := ostree.ParseChecksum(ref.New); err != nil {
			return m, err
		}
		if err := os.WriteFile(m.temp(i), []byte(ref.New+"\n"), 0o666); err != nil {
			return m, fmt.Errorf("write ref %s: %w", ref.Ref, err)
		}
	}
	return m, nil
}

func (m *refMoves) temp(i int) string { return filepath.Join(m.folder, strconv.Itoa(i)) }

func (m *refMoves) drop() error { return os.RemoveAll(m.folder) }

// apply gives the refs their names. It may be repeated after a crash, beginning
// with prepareRefs.
func (m *refMoves) apply() error {
	for i, ref := range m.refs {
		err := fault.Point("move a ref", func() error { return m.place(m.temp(i), ref.Ref) })
		if err != nil {
			return fmt.Errorf("move ref %s: %w", ref.Ref, err)
		}
	}
	// libostree does so, for whoever watches the repository for changes.
	now := time.Now()
	return os.Chtimes(m.path, now, now)
}

func (m *refMoves) place(temp, ref string) error {
	path := filepath.Join(m.path, "refs", "heads", ref)
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return err
	}
	err := os.Rename(temp, path)
	if errors.Is(err, unix.EISDIR) || errors.Is(err, fs.ErrExist) {
		// The folder of refs that were deleted.
		if err := removeEmpty(path); err != nil {
			return err
		}
		err = os.Rename(temp, path)
	}
	return err
}

// removeEmpty removes a folder in which there are only empty folders.
func removeEmpty(path string) error {
	entries, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeEmpty(filepath.Join(path, e.Name())); err != nil {
				return err
			}
		}
	}
	return os.Remove(path)
}
