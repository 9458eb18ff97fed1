// SPDX-License-Identifier: AGPL-3.0-or-later

package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/lirios/ostree-upload/internal/durable"
	"github.com/lirios/ostree-upload/internal/hint"
)

// lockPath is the file whose lock makes a process the one server of a repository,
// wherever its state is.
func lockPath(repo string) string { return filepath.Join(repo, ".ostree-upload.lock") }

// lockEvery is how often a server looks whether the one before it has ended.
const lockEvery = 100 * time.Millisecond

// lockRepo takes the lock of the repository. While another server has it, this one
// waits as long as the options say, for one that is on its way out.
func lockRepo(ctx context.Context, opt Options) (*os.File, error) {
	lock, err := awaitLock(ctx, opt, durable.Lock)
	switch {
	case errors.Is(err, durable.ErrLocked):
		return nil, otherServer(opt, err)
	case errors.Is(err, fs.ErrPermission):
		return nil, hint.Add(fmt.Errorf("cannot write to the repository %s: %w", opt.Repo, err),
			"give its owner the right to write to all of its folders: chmod -R u+rwX %s", opt.Repo)
	}
	return lock, err
}

// lockEarly is lockRepo for a process that is not the owner of the repository yet. It
// makes no file there, and returns nil without an error if there is none.
func lockEarly(ctx context.Context, opt Options) (*os.File, error) {
	lock, err := awaitLock(ctx, opt, durable.LockThere)
	switch {
	case errors.Is(err, durable.ErrLocked):
		return nil, otherServer(opt, err)
	case err != nil && ctx.Err() != nil:
		return nil, err
	case err != nil:
		return nil, nil // lockRepo says it better
	}
	return lock, nil
}

func otherServer(opt Options, err error) error {
	if opt.Bucket != nil {
		return hint.Add(fmt.Errorf("another ostree-upload serves %s with the state folder %s: %w", opt.where(), opt.State, err),
			"each server of a bucket needs a state folder of its own; stop the other one first, or have this one wait for its end by --wait-lock")
	}
	return hint.Add(fmt.Errorf("another ostree-upload serves %s: %w", opt.Repo, err),
		"one server serves a repository; stop the other one first, or have this one wait for its end by --wait-lock")
}

func awaitLock(ctx context.Context, opt Options, take func(path string) (*os.File, error)) (*os.File, error) {
	until := time.Now().Add(opt.WaitLock)
	for waits := false; ; waits = true {
		lock, err := take(lockPath(opt.Repo))
		if !errors.Is(err, durable.ErrLocked) || !time.Now().Before(until) {
			if waits {
				manager{opt.Log}.tell("STATUS=starting")
			}
			return lock, err
		}
		if !waits {
			opt.Log.Warn("another ostree-upload serves the repository, waiting for its end", "repo", opt.where(), "wait", opt.WaitLock)
			manager{opt.Log}.tell("STATUS=waiting for the end of the server before this one")
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(lockEvery):
		}
	}
}

func closeLock(lock *os.File) error {
	if lock == nil {
		return nil
	}
	return lock.Close()
}
