// SPDX-License-Identifier: AGPL-3.0-or-later

package publish

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/lirios/ostree-upload/internal/libostree"
)

// Summary tells when a publish writes the repository's summary anew.
type Summary string

// Auto keeps up a summary that exists and that nobody else has a hand in.
const (
	Auto   Summary = "auto"
	Always Summary = "always"
	Never  Summary = "never"
)

// ours are the keys that ostree_repo_regenerate_summary writes by itself. Any
// other would be lost.
var ours = []string{
	"ostree.static-deltas",
	"ostree.summary.collection-id",
	"ostree.summary.collection-map",
	"ostree.summary.indexed-deltas",
	"ostree.summary.last-modified",
	"ostree.summary.mode",
	"ostree.summary.tombstone-commits",
}

// SummaryOf tells whether publishing into a repository writes its summary,
// and if not although there is one, why.
func SummaryOf(repo string, s Summary) (write bool, why string, err error) {
	if s != Auto {
		return s == Always, "the configuration says never", nil
	}
	b, err := os.ReadFile(filepath.Join(repo, "summary"))
	if errors.Is(err, fs.ErrNotExist) {
		return false, "", nil
	}
	if err != nil {
		return false, "", err
	}
	if _, err := os.Lstat(filepath.Join(repo, "summary.sig")); !errors.Is(err, fs.ErrNotExist) {
		return false, "it is signed, and the key is not here", err
	}
	for _, key := range libostree.SummaryKeys(b) {
		if !slices.Contains(ours, key) {
			return false, "it holds the foreign key " + key, nil
		}
	}
	return true, "", nil
}
