// SPDX-License-Identifier: AGPL-3.0-or-later

package durable

import (
	"errors"
	"io/fs"
	"path/filepath"
	"testing"

	"github.com/lirios/ostree-upload/test/must"
)

// A file system is synced by any path on it; none is an error.
func TestSyncFS(t *testing.T) {
	must.OK(t, SyncFS(t.TempDir()))
	if err := SyncFS(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("sync of nothing: %v", err)
	}
}

// A lock excludes other holders until it is closed.
func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	held, err := Lock(path)
	must.OK(t, err)
	if _, err := Lock(path); !errors.Is(err, ErrLocked) {
		t.Errorf("second holder: %v", err)
	}
	must.OK(t, held.Close())
	again, err := Lock(path)
	must.OK(t, err)
	must.OK(t, again.Close())
}
