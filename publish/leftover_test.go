// SPDX-License-Identifier: AGPL-3.0-or-later

package publish

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/lirios/ostree-upload/internal/libostree"
	"github.com/lirios/ostree-upload/test/must"
)

// What a transaction of a dead process has left is deleted; one that is under
// way is not.
func TestDropTransactions(t *testing.T) {
	path := filepath.Join(t.TempDir(), "repo")
	must.OK(t, libostree.Init(path, "archive"))
	repo, err := libostree.Open(path)
	must.OK(t, err)
	must.OK(t, repo.Begin())
	tmp := filepath.Join(path, "tmp")
	living, err := filepath.Glob(filepath.Join(tmp, "staging-*"))
	must.OK(t, err)
	if len(living) != 2 { // the folder and its lock
		t.Fatalf("a transaction has %q", living)
	}
	dead := filepath.Join(tmp, "staging-dead-beef")
	unlocked := filepath.Join(tmp, "staging-older")
	must.OK(t, os.MkdirAll(filepath.Join(dead, "ab"), 0o755))
	must.OK(t, os.WriteFile(dead+"-lock", nil, 0o600))
	must.OK(t, os.Mkdir(unlocked, 0o755))

	p := newDisk(Config{Repo: path})
	must.OK(t, p.dropTransactions())
	for _, gone := range []string{dead, dead + "-lock", unlocked} {
		if _, err := os.Lstat(gone); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is still there: %v", gone, err)
		}
	}
	for _, there := range living {
		if _, err := os.Lstat(there); err != nil {
			t.Errorf("of a transaction under way: %v", err)
		}
	}
	must.OK(t, repo.Abort())
	repo.Close()
}
