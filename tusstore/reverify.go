// SPDX-License-Identifier: AGPL-3.0-or-later

package tusstore

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/lirios/ostree-upload/internal/durable"
	"github.com/lirios/ostree-upload/internal/ostree"
)

// reverify checks every staged object after an unclean stop and deletes
// those that are not what their name says: a power cut may have kept a file's
// name and lost its bytes, and so may a sync that failed.
func (s *Store) reverify(ctx context.Context) error {
	s.cfg.Log.Info("unclean stop: verifying all staged objects")
	// What is not on the disk yet could not be read from there.
	if err := durable.SyncFS(s.staged.path); err != nil {
		return err
	}
	return verifyAll(ctx, s.staged.path, s.cfg.Workers, func(f *os.File, wrong error) error {
		if wrong == nil {
			return durable.SetTime(f, s.staged.stamp.on(time.Now()))
		}
		s.cfg.Log.Warn("deleting a staged file that does not verify", "object", objectOf(f), "err", wrong)
		return os.Remove(f.Name())
	})
}

// objectOf is a staged file's name below objects/.
func objectOf(f *os.File) string {
	dir, file := filepath.Split(f.Name())
	return filepath.Join(filepath.Base(dir), file)
}

// verifyAll checks every file of the staging at path and calls each, from several
// goroutines, for each of them: with what is wrong with it, or nil.
func verifyAll(ctx context.Context, path string, workers int, each func(f *os.File, wrong error) error) error {
	return ostree.EachFolder(ctx, workers, func(ctx context.Context, folders <-chan string) error {
		v := ostree.NewVerifier(0) // what was accepted stays good when the limit is lowered
		v.Step(ctx.Err)
		for folder := range folders {
			if err := verifyDir(v, path, folder, each); err != nil {
				return err
			}
		}
		return nil
	})
}

func verifyDir(v *ostree.Verifier, path, dir string, each func(*os.File, error) error) error {
	files, err := os.ReadDir(filepath.Join(path, "objects", dir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, file := range files {
		f, err := os.Open(filepath.Join(path, "objects", dir, file.Name()))
		if err != nil {
			return err
		}
		wrong, err := verifyFile(v, f)
		if err == nil {
			err = each(f, wrong)
		}
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// verifyFile tells what is wrong with a staged file; an error means that it cannot
// be read.
func verifyFile(v *ostree.Verifier, f *os.File) (wrong, err error) {
	dir, file := filepath.Split(f.Name())
	n, wrong := ostree.ParseName(filepath.Base(dir) + file)
	if wrong != nil {
		return wrong, nil
	}
	return verifyOpen(v, n, f)
}

// verifyOpen tells what is wrong with an object's file as the disk has it.
func verifyOpen(v *ostree.Verifier, n ostree.Name, f *os.File) (wrong, err error) {
	if err = durable.Uncache(f); err == nil {
		_, err = v.Verify(n, f)
	}
	if bad := new(ostree.BadObjectError); errors.As(err, &bad) {
		return bad, nil
	}
	return nil, err
}
