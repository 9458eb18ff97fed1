// SPDX-License-Identifier: AGPL-3.0-or-later

package publish

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
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
	*diskChange
	folder string // of the temporary names
	refs   []wire.Ref
}

// refsPrefix is what the folders of temporary names begin with, in the
// repository's tmp/.
const refsPrefix = "ostree-upload-refs-"

// prepareRefs writes the new values of a session's refs. They are durable after the
// next sync.
func (r *diskChange) prepareRefs(s *journal.Session) (moves, error) {
	m := &refMoves{diskChange: r, folder: filepath.Join(r.path, "tmp", refsPrefix+s.ID), refs: s.Refs}
	if err := m.drop(); err != nil { // from before a crash
		return m, err
	}
	if err := os.MkdirAll(m.folder, 0o777); err != nil {
		return m, err
	}
	for i, ref := range m.refs {
		if ref.New == "" {
			continue
		}
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

func (m *refMoves) alone() (unlock func() error, err error) { return lockAlone(m.dst) }

// apply gives the refs their names, and takes away those that are deleted.
func (m *refMoves) apply(context.Context) error {
	for _, i := range refOrder(m.refs) {
		ref := m.refs[i].Ref
		err := fault.Point("move a ref", func() error {
			if m.refs[i].New == "" {
				return m.remove(ref)
			}
			return m.place(m.temp(i), ref)
		})
		if err != nil {
			return fmt.Errorf("move ref %s: %w", ref, err)
		}
	}
	// libostree does so, for whoever watches the repository for changes.
	now := time.Now()
	return os.Chtimes(m.path, now, now)
}

// refOrder is that in which refs move, by their numbers: first those that are deleted
// and in the way of another, as a file is of a folder; then those that get a commit; then
// the others that are deleted, so that a ref which gets another name always has one.
func refOrder(refs []wire.Ref) []int {
	rank := ranks(refs)
	order := make([]int, len(refs))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(rank(a), rank(b)) })
	return order
}

// rankOf is how many of the first refs of an order may move in any order among themselves.
func rankOf(refs []wire.Ref, order []int) int {
	rank := ranks(refs)
	for n, i := range order {
		if rank(i) != rank(order[0]) {
			return n
		}
	}
	return len(order)
}

// ranks gives the rank of each ref: those of one rank do not need each other.
func ranks(refs []wire.Ref) func(i int) int {
	placed, deleted := map[string]bool{}, map[string]bool{}
	for _, r := range refs {
		if r.New == "" {
			deleted[r.Ref] = true
		} else {
			placed[r.Ref] = true
		}
	}
	inTheWay := map[string]bool{}
	for name := range placed {
		for folder := range foldersOf(name) {
			inTheWay[folder] = deleted[folder]
		}
	}
	return func(i int) int {
		r := refs[i]
		switch {
		case r.New != "":
			return 1
		case inTheWay[r.Ref], isBelow(r.Ref, placed):
			return 0
		}
		return 2
	}
}

// foldersOf goes through the folders that a ref is in.
func foldersOf(ref string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for i := range len(ref) {
			if ref[i] == '/' && !yield(ref[:i]) {
				return
			}
		}
	}
}

// isBelow tells whether one of the folders that a ref is in is one of names.
func isBelow(ref string, names map[string]bool) bool {
	for folder := range foldersOf(ref) {
		if names[folder] {
			return true
		}
	}
	return false
}

// remove removes a ref and the folders that are empty without it. What is there in its
// place, after a crash, is a folder of other refs of the session.
func (m *refMoves) remove(ref string) error {
	heads := filepath.Join(m.path, "refs", "heads")
	path := filepath.Join(heads, ref)
	err := unix.Unlink(path)
	if err != nil && err != unix.ENOENT && err != unix.ENOTDIR && err != unix.EISDIR {
		return &fs.PathError{Op: "unlink", Path: path, Err: err}
	}
	for folder := filepath.Dir(path); folder != heads; folder = filepath.Dir(folder) {
		if unix.Rmdir(folder) != nil {
			break // mostly it is not empty; one that stays does no harm
		}
	}
	return nil
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
