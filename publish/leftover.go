// SPDX-License-Identifier: AGPL-3.0-or-later

package publish

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

func (d *disk) tidy(log *slog.Logger) error {
	if err := d.dropTransactions(); err != nil {
		return err
	}
	d.summary.begin(context.Background(), log)
	return nil
}

// dropTransactions deletes what transactions, moves of refs and a new summary that ended
// in the middle have left. libostree would go on with its own until the next boot,
// although a sync of it may have failed.
func (d *disk) dropTransactions() error {
	tmp := filepath.Join(d.path, "tmp")
	left, err := os.ReadDir(tmp)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, f := range left {
		if strings.HasPrefix(f.Name(), refsPrefix) || f.Name() == draftFolder || f.Name() == replaceName {
			if err := os.RemoveAll(filepath.Join(tmp, f.Name())); err != nil {
				return err
			}
		}
		if f.IsDir() && strings.HasPrefix(f.Name(), "staging-") {
			if err := dropTransaction(filepath.Join(tmp, f.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// dropTransaction deletes one, unless a program works on it: that holds the lock
// beside it, which libostree takes (glnx_make_lock_file). One of another user, whose
// lock is closed to this one, stays: libostree passes it by.
func dropTransaction(path string) error {
	lock, err := os.OpenFile(path+"-lock", os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return os.RemoveAll(path)
	}
	if errors.Is(err, fs.ErrPermission) {
		return nil
	}
	if err != nil {
		return err
	}
	defer lock.Close()
	err = unix.FcntlFlock(lock.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	return errors.Join(os.RemoveAll(path), os.Remove(lock.Name()))
}
