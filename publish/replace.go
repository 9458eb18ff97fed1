// SPDX-License-Identifier: AGPL-3.0-or-later

package publish

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/lirios/ostree-upload/internal/fault"
	"github.com/lirios/ostree-upload/internal/libostree"
	"github.com/lirios/ostree-upload/internal/ostree"
)

// replaceName is the folder in the repository's tmp/ where copies of content are made
// that are to replace damaged ones.
const replaceName = "ostree-upload-replace"

// replaces tells whether the content of a file has to be replaced here: libostree takes
// whatever copy a repository of a bare mode has for good.
func (r *diskChange) replaces(n ostree.Name, is place) bool {
	return is == replaceable && n.Type == ostree.File && r.repo.Mode() != ostree.ModeArchive
}

// replaceFiles replaces damaged copies of content, each by one rename: a reader finds
// the one or the other, and a checkout that shares the damaged file keeps that. The new
// ones are made, and made durable, in a repository of the same mode beside the objects.
func (r *diskChange) replaceFiles(c *closure) (err error) {
	var names []ostree.Name
	for _, folder := range c.folders {
		for n, is := range folder {
			if r.replaces(n, is) {
				names = append(names, n)
			}
		}
	}
	if len(names) == 0 {
		return nil
	}
	path := filepath.Join(r.path, "tmp", replaceName)
	if err := os.RemoveAll(path); err != nil { // from before a crash
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(path)) }()
	if err := r.makeCopies(path, names); err != nil {
		return err
	}
	made, err := ostree.OpenRepo(path)
	if err != nil {
		return err
	}
	return fault.Point("replace files", func() error { return r.takePlaces(made, names) })
}

// makeCopies imports objects into a repository at path. How much of the disk stays free
// was decided by the settings of the one that they are for.
func (r *diskChange) makeCopies(path string, names []ostree.Name) error {
	mode := r.repo.Mode()
	if err := libostree.Init(path, mode); err != nil {
		return err
	}
	config := fmt.Sprintf("[core]\nrepo_version=1\nmode=%s\nmin-free-space-percent=0\n", mode)
	if err := os.WriteFile(filepath.Join(path, "config"), []byte(config), 0o600); err != nil {
		return err
	}
	made, err := libostree.Open(path)
	if err != nil {
		return err
	}
	defer made.Close()
	return transaction(made, func() error {
		for _, n := range names {
			if err := made.Import(r.src, n); err != nil {
				return err
			}
		}
		return nil
	})
}

// takePlaces gives the objects of made their places in the repository.
func (r *diskChange) takePlaces(made *ostree.Repo, names []ostree.Name) error {
	for _, n := range names {
		if err := os.Rename(made.ObjectPath(n), r.repo.ObjectPath(n)); err != nil {
			return fmt.Errorf("replace object %s: %w", n, err)
		}
	}
	return nil
}
