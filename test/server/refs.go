// SPDX-License-Identifier: AGPL-3.0-or-later

package server

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/must"
)

// ManyRefs makes many refs of ten commits, two folders for each. It returns moves of them
// as they may have been.
func (s *Server) ManyRefs(t testing.TB, n int) (refs []wire.Ref) {
	t.Helper()
	var commits []string
	for i := range 10 {
		commits = append(commits, Commit(t, s.Repo, "main", fmt.Sprint(i), 1).String())
	}
	for i := range n {
		r := wire.Ref{Ref: fmt.Sprintf("app/org.example.App%d/x86_64/stable", i), Old: commits[1], New: commits[i%10]}
		path := filepath.Join(s.Repo, "refs/heads", r.Ref)
		must.OK(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must.OK(t, os.WriteFile(path, []byte(r.New+"\n"), 0o644))
		refs = append(refs, r)
	}
	return refs
}
