// SPDX-License-Identifier: AGPL-3.0-or-later

package tusstore

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/lirios/ostree-upload/internal/ostree"
)

// Hold keeps every staged object where it is until the returned release. Who
// looks objects up and then relies on them holds meanwhile: negotiation until
// the set is recorded, ingest until the outcome is, publishing to its end.
func (s *Store) Hold() (release func()) {
	s.cleaning.RLock()
	return s.cleaning.RUnlock
}

// Clean deletes the staged objects that no session needs: those in the set of
// none that is open, verifying or publishing. While somebody holds it passes a
// folder over, since a publish may hold for minutes and whoever waits to write
// keeps all others out: the next Clean gets there.
func (s *Store) Clean(ctx context.Context) (deleted int, err error) {
	for i := range s.staged.dirs {
		if err := ctx.Err(); err != nil {
			return deleted, err
		}
		n, err := s.cleanDir(i)
		deleted += n
		if err != nil {
			return deleted, fmt.Errorf("clean the staging: %w", err)
		}
	}
	return deleted, nil
}

func (s *Store) cleanDir(i int) (deleted int, err error) {
	prefix := fmt.Sprintf("%02x", i)
	dir := filepath.Join(s.staged.path, "objects", prefix)
	if !s.cleaning.TryLock() {
		return 0, nil
	}
	defer s.cleaning.Unlock()
	files, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	for _, f := range files {
		n, err := ostree.ParseName(prefix + f.Name())
		if err == nil {
			needed, err := s.cfg.Journal.Needed(n)
			if err != nil {
				return deleted, err
			}
			if needed {
				continue
			}
		}
		if err := os.Remove(filepath.Join(dir, f.Name())); err != nil {
			return deleted, err
		}
		deleted++
	}
	return deleted, nil
}

// Active is when bytes last arrived for an upload of a session that is not done;
// the zero time if none have.
func (s *Store) Active(session string) (last time.Time, err error) {
	return s.claims.active(session), nil
}
