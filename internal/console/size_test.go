// SPDX-License-Identifier: AGPL-3.0-or-later

package console

import (
	"io/fs"
	"testing"

	"github.com/lirios/ostree-upload/test/must"
)

// TestSmall pins that all files of the page together have less than 100 kB.
func TestSmall(t *testing.T) {
	files, size := 0, int64(0)
	must.OK(t, fs.WalkDir(web, ".", func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err == nil {
			files++
			size += info.Size()
		}
		return err
	}))
	t.Logf("%d files, %d bytes", files, size)
	if files < 3 || size >= 100_000 {
		t.Errorf("%d files have %d bytes", files, size)
	}
}
