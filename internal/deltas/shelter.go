// SPDX-License-Identifier: AGPL-3.0-or-later

package deltas

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/lirios/ostree-upload/internal/durable"
	"github.com/lirios/ostree-upload/internal/fault"
	"github.com/lirios/ostree-upload/internal/ostree"
)

// Shelter calls do, which may delete deltas, as Flatpak deletes those that it has no use
// for, and brings back those of the record that it has deleted.
func (k *Keeper) Shelter(do func() error) error {
	rec, err := readRecord(k.State)
	if err != nil {
		return err
	}
	r := &run{Keeper: k, rec: rec}
	if r.repo, err = ostree.OpenRepo(k.Repo); err != nil {
		return err
	}
	if err := r.bringBack(); err != nil { // from before a crash
		return err
	}
	err = r.link()
	if err == nil {
		err = do()
	}
	return errors.Join(err, r.bringBack())
}

// link gives the files of all deltas another name, durably. Deltas are never written to.
func (r *run) link() error {
	for d := range r.rec.Deltas {
		if !r.isThere(d) {
			continue
		}
		place, temp := filepath.Join(r.Repo, d.path()), r.temp(keptPrefix, d)
		if err := errors.Join(os.RemoveAll(temp), os.Mkdir(temp, 0o777)); err != nil {
			return err
		}
		files, err := os.ReadDir(place)
		if err != nil {
			return err
		}
		for _, f := range files {
			if err := os.Link(filepath.Join(place, f.Name()), filepath.Join(temp, f.Name())); err != nil {
				return err
			}
		}
	}
	return durable.SyncFS(r.Repo)
}

// bringBack puts in their places the deltas that are not there any more. While one is
// there, its links may not all be.
func (r *run) bringBack() (err error) {
	for d := range r.rec.Deltas {
		temp := r.temp(keptPrefix, d)
		if _, gone := os.Stat(temp); errors.Is(gone, fs.ErrNotExist) {
			continue
		}
		failed := fault.Point("bring a delta back", func() error { return r.place(d, temp) })
		err = errors.Join(err, failed, os.RemoveAll(temp))
	}
	return err
}
