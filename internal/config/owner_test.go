// SPDX-License-Identifier: AGPL-3.0-or-later

package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The file that root makes belongs to the owner of the repository that it names, else
// to that of its folder; one that was there before keeps its owner, and whoever cannot
// read it is named.
func TestEntrust(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	const ostree, other = 4242, 4343
	for _, tt := range []struct {
		name       string
		repo       bool // there is a repository, of user ostree
		folder     int
		mode       os.FileMode
		made       bool
		owner      int
		cannotRead bool
	}{
		{"new, repository of another", true, 0, 0o600, true, ostree, false},
		{"new, folder of another", false, other, 0o600, true, other, false},
		{"new, all root's", false, 0, 0o600, true, 0, false},
		{"old, repository of another", true, 0, 0o600, false, 0, true},
		{"old, readable by all", true, 0, 0o644, false, 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			folder, repo, path := filepath.Join(dir, "etc"), filepath.Join(dir, "prod"), filepath.Join(dir, "etc/c.yaml")
			must := func(err error) {
				if err != nil {
					t.Fatal(err)
				}
			}
			must(os.Mkdir(folder, 0o755))
			must(os.Chown(folder, tt.folder, tt.folder))
			if tt.repo {
				must(os.Mkdir(repo, 0o755))
				must(os.Chown(repo, ostree, ostree))
			}
			must(os.WriteFile(path, []byte(fmt.Sprintf("repo: %s\n", repo)), tt.mode))
			warning, err := Entrust(path, tt.made)
			must(err)
			if uid, _, err := ownerOf(path); err != nil || uid != tt.owner {
				t.Errorf("it belongs to %d (%v), want %d", uid, err, tt.owner)
			}
			if tt.cannotRead != strings.HasPrefix(warning, "user 4242, who owns "+repo+", cannot read ") {
				t.Errorf("it warns %q", warning)
			}
		})
	}
}
