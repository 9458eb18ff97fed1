// SPDX-License-Identifier: AGPL-3.0-or-later

package tusstore

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/journal"
)

// withdrawLost has the journal count as missing what it calls staged and a power
// cut took, so that its client sends it again.
func (s *Store) withdrawLost() error {
	lost, err := lostObjects(s.cfg, s.staged.path)
	if err != nil {
		return err
	}
	for _, session := range slices.Sorted(maps.Keys(lost)) {
		names := lost[session]
		s.cfg.Log.Warn("staged objects are lost; they count as missing", "session", session, "objects", len(names))
		if err := s.cfg.Journal.Withdraw(session, nil, names); err != nil {
			return err
		}
	}
	return nil
}

// lostObjects lists, by session that may still publish, the objects that the
// journal calls staged and that are neither in the staging at path nor in the
// repository, of which a repair takes nothing.
func lostObjects(cfg Config, path string) (map[string][]ostree.Name, error) {
	live, err := cfg.Journal.Live(nil)
	if err != nil {
		return nil, err
	}
	lost := make(map[string][]ostree.Name)
	for _, s := range live {
		err := cfg.Journal.Each(s.ID, func(n ostree.Name, status journal.Status) error {
			if status != journal.Staged || n.Type == ostree.CommitMeta { // that is in the journal itself
				return nil
			}
			_, err := os.Lstat(filepath.Join(path, "objects", n.Path()))
			if !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			there, err := cfg.Repo.Has(n)
			if err == nil && (!there || s.Repair) {
				lost[s.ID] = append(lost[s.ID], n)
			}
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("session %s: look for staged objects: %w", s.ID, err)
		}
	}
	return lost, nil
}

// inspectLost names them in words.
func inspectLost(cfg Config) (lost []string, err error) {
	objects, err := lostObjects(cfg, filepath.Join(cfg.Dir, "staged"))
	if err != nil {
		return nil, err
	}
	for _, session := range slices.Sorted(maps.Keys(objects)) {
		for _, n := range objects[session] {
			lost = append(lost, fmt.Sprintf("object %s of session %s is not staged any more", n, session))
		}
	}
	return lost, nil
}
