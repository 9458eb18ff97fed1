// SPDX-License-Identifier: AGPL-3.0-or-later

package server_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/test/must"

	"github.com/lirios/ostree-upload/internal/server"
	"github.com/lirios/ostree-upload/internal/wire"
	ts "github.com/lirios/ostree-upload/test/server"
)

// A repository that came back without its empty folders is told by check, and whole
// again after a start: pushes move refs and the summary.
func TestLackingFolders(t *testing.T) {
	folders := []string{"refs/heads", "refs/mirrors", "refs/remotes", "refs", "state", "tmp", "extensions"}
	build := filepath.Join(t.TempDir(), "build")
	commit := ts.Commit(t, build, "x", "one", 3).String()
	s := ts.Start(t, "archive")
	must.OSTree(t, "summary", "--repo="+s.Repo, "-u")
	s.Stop()
	for _, name := range folders {
		must.OK(t, os.RemoveAll(filepath.Join(s.Repo, name)))
	}
	report, err := server.Check(t.Context(), s.Options(), false)
	must.OK(t, err)
	notes := strings.Join(report.Notes, "\n")
	for _, name := range folders {
		if name != "refs" && !strings.Contains(notes, "no folder "+name+";") {
			t.Errorf("check does not tell of %s:\n%s", name, notes)
		}
	}
	s.Run()
	got := s.Client(s.Token).Push(build, wire.Ref{Ref: "x", New: commit})
	if got.State != wire.Published || got.Detail != "" || s.Ref("x") != commit {
		t.Errorf("the session is %s, %q; x is at %q", got.State, got.Detail, s.Ref("x"))
	}
	if !strings.Contains(must.OSTree(t, "summary", "--repo="+s.Repo, "-v"), commit) {
		t.Error("the summary does not list the commit")
	}
	for _, name := range folders {
		if info, err := os.Stat(filepath.Join(s.Repo, name)); err != nil || !info.IsDir() {
			t.Errorf("%s: %v", name, err)
		}
	}
}
