// SPDX-License-Identifier: AGPL-3.0-or-later

package tusstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"

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
	return verifyAll(ctx, s.staged.path, s.cfg.Workers, func(file string, err error) error {
		s.cfg.Log.Warn("deleting a staged file that does not verify", "object", file, "err", err)
		return os.Remove(filepath.Join(s.staged.path, "objects", file))
	})
}

// verifyAll checks every file of the staging at path and calls bad, from
// several goroutines, for each that is no good object.
func verifyAll(ctx context.Context, path string, workers int, bad func(file string, err error) error) error {
	g, ctx := errgroup.WithContext(ctx)
	dirs := make(chan string)
	g.Go(func() error {
		defer close(dirs)
		for i := range 256 {
			select {
			case dirs <- fmt.Sprintf("%02x", i):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	for range workers {
		g.Go(func() error {
			v := ostree.NewVerifier(0) // what was accepted stays good when the limit is lowered
			for dir := range dirs {
				if err := verifyDir(v, path, dir, bad); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

func verifyDir(v *ostree.Verifier, path, dir string, bad func(string, error) error) error {
	files, err := os.ReadDir(filepath.Join(path, "objects", dir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, f := range files {
		wrong, err := verifyFile(v, filepath.Join(path, "objects", dir, f.Name()), dir+f.Name())
		if err == nil && wrong != nil {
			err = bad(filepath.Join(dir, f.Name()), wrong)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// verifyFile tells what is wrong with a staged file as the disk has it; an error
// means that it cannot be read.
func verifyFile(v *ostree.Verifier, path, name string) (wrong, err error) {
	n, wrong := ostree.ParseName(name)
	if wrong != nil {
		return wrong, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if err = durable.Uncache(f); err == nil {
		_, err = v.Verify(n, f)
	}
	err = errors.Join(err, f.Close())
	if bad := new(ostree.BadObjectError); errors.As(err, &bad) {
		return bad, nil
	}
	return nil, err
}
