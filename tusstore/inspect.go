// SPDX-License-Identifier: AGPL-3.0-or-later

package tusstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/lirios/ostree-upload/internal/durable"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/journal"
)

// Inspect reads the store in cfg.Dir, which no process has open, and tells what
// is wrong: findings need an operator, or --repair; notes say what the next start
// repairs by itself. After an unclean stop that is also what a power cut may have
// damaged.
func Inspect(ctx context.Context, cfg Config) (findings, notes []string, err error) {
	damaged, err := inspectStaged(ctx, cfg)
	if err != nil {
		return nil, nil, err
	}
	lost, err := inspectLost(cfg)
	if err != nil {
		return nil, nil, err
	}
	damaged = append(damaged, lost...)
	if notes, err = inspectUnneeded(cfg); err != nil {
		return nil, nil, err
	}
	s := &Store{cfg: cfg, uploads: filepath.Join(cfg.Dir, "uploads")}
	sessions, err := os.ReadDir(s.uploads)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	for _, dir := range sessions {
		session, err := cfg.Journal.Session(dir.Name())
		switch {
		case errors.Is(err, journal.ErrNotFound), err == nil && session.State.Final():
			notes = append(notes, fmt.Sprintf("uploads of session %s, which has ended, are still there; the next start repairs this", dir.Name()))
		case err != nil:
			return nil, nil, err
		default:
			d, f, n, err := s.inspectSession(dir.Name())
			if err != nil {
				return nil, nil, err
			}
			damaged, findings, notes = append(damaged, d...), append(findings, f...), append(notes, n...)
		}
	}
	clean, err := wasClean(filepath.Join(cfg.Dir, "staged"))
	if err != nil {
		return nil, nil, err
	}
	if clean {
		return append(damaged, findings...), notes, nil
	}
	for _, d := range damaged {
		notes = append(notes, d+"; the next start repairs this")
	}
	return findings, notes, nil
}

// inspectStaged names the staged files that are no good objects.
func inspectStaged(ctx context.Context, cfg Config) (bad []string, err error) {
	var mu sync.Mutex
	err = verifyAll(ctx, filepath.Join(cfg.Dir, "staged"), cfg.Workers, func(f *os.File, wrong error) error {
		mu.Lock()
		defer mu.Unlock()
		if wrong != nil {
			bad = append(bad, fmt.Sprintf("staged file %s: %v", objectOf(f), wrong))
		}
		return nil
	})
	return bad, err
}

// inspectUnneeded counts the staged objects that no session needs and names what
// a start left under temporary names.
func inspectUnneeded(cfg Config) (notes []string, err error) {
	path := filepath.Join(cfg.Dir, "staged")
	left, err := durable.Temporary(filepath.Join(path, "config"))
	if err != nil {
		return nil, err
	}
	for _, l := range left {
		notes = append(notes, "temporary file "+l+" is left behind; the next start repairs this")
	}
	objects, err := fs.Glob(os.DirFS(path), "objects/*/*")
	if err != nil {
		return nil, err
	}
	unneeded := 0
	for _, o := range objects {
		n, err := ostree.ParseName(filepath.Base(filepath.Dir(o)) + filepath.Base(o))
		if err != nil {
			continue // does not verify either
		}
		needed, err := cfg.Journal.Needed(n)
		if err != nil {
			return nil, err
		}
		if !needed {
			unneeded++
		}
	}
	if unneeded > 0 {
		notes = append(notes, fmt.Sprintf("staged objects that no session needs: %d; the server deletes them", unneeded))
	}
	return notes, nil
}

// inspectSession looks at the uploads of a session that is alive.
func (s *Store) inspectSession(session string) (damaged, findings, notes []string, err error) {
	files, err := os.ReadDir(filepath.Join(s.uploads, session))
	if err != nil {
		return nil, nil, nil, err
	}
	for _, f := range strays(files) {
		notes = append(notes, fmt.Sprintf("file %s of session %s belongs to no upload; the next start repairs this", f, session))
	}
	for _, f := range files {
		name, isInfo := uploadOfInfo(f.Name())
		if !isInfo {
			continue
		}
		fi, err := s.readInfo(session, name)
		if err != nil {
			damaged = append(damaged, fmt.Sprintf("upload %s of session %s: %v", name, session, err))
			continue
		}
		st, err := os.Stat(s.dataPath(session, name))
		if err == nil && st.Size() > fi.Size {
			findings = append(findings, fmt.Sprintf("upload %s of session %s has %d bytes, more than its %d", name, session, st.Size(), fi.Size))
		}
	}
	return damaged, findings, notes, nil
}
