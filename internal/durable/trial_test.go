// SPDX-License-Identifier: AGPL-3.0-or-later

package durable

import (
	"errors"
	"io/fs"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lirios/ostree-upload/test/must"
)

// otherDisk is a folder on another file system than dir.
func otherDisk(t *testing.T, dir string) string {
	t.Helper()
	other, err := os.MkdirTemp("/dev/shm", "trial")
	if err != nil {
		t.Skip("there is no /dev/shm")
	}
	t.Cleanup(func() { os.RemoveAll(other) })
	var a, b unix.Stat_t
	must.OK(t, errors.Join(unix.Stat(other, &a), unix.Stat(dir, &b)))
	if a.Dev == b.Dev {
		t.Skip("/dev/shm is no other file system")
	}
	return other
}

// Trials tell what works, and leave nothing behind where it does not.
func TestTrials(t *testing.T) {
	a, b := t.TempDir(), t.TempDir()
	other := otherDisk(t, a)
	must.OK(t, CanRename(a, b))
	must.OK(t, CanLink(a, b))
	for name, can := range map[string]func(from, to string) error{"CanRename": CanRename, "CanLink": CanLink} {
		if err := can(a, other); !errors.Is(err, unix.EXDEV) {
			t.Errorf("%s to another file system: %v", name, err)
		}
		if err := can(a, a+"/gone"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s to no folder: %v", name, err)
		}
	}
	must.OK(t, CanLinkUnnamed(a))
	if err := CanLinkUnnamed("/proc/self"); err == nil {
		t.Error("a file can be made in /proc")
	}
	keeps, err := KeepsTime(a, time.Unix(1_000_000_000, 123_456_700))
	if err != nil || !keeps {
		t.Errorf("keeps times: %v, %v", keeps, err)
	}
	for _, dir := range []string{a, b, other} {
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("left in %s: %v, %v", dir, left, err)
		}
	}
}
