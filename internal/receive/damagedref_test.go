// SPDX-License-Identifier: AGPL-3.0-or-later

package receive_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/test/must"
	ts "github.com/lirios/ostree-upload/test/server"
)

// Whoever meets a damaged ref learns which one it is, and where to read how it is mended.
func TestDamagedRefIsExplained(t *testing.T) {
	for _, mode := range []string{"archive", ts.InBucket} {
		t.Run(mode, func(t *testing.T) {
			s := ts.Start(t, mode)
			path := filepath.Join(s.Repo, "refs/heads/x")
			if mode == ts.InBucket {
				_, err := s.Bucket().Put(t.Context(), "refs/heads/x", []byte("spoilt"))
				must.OK(t, err)
				t.Cleanup(func() { s.SetRef("x", "") })
			} else {
				must.OK(t, os.WriteFile(path, []byte("spoilt"), 0o644))
				t.Cleanup(func() { must.OK(t, os.Remove(path)) })
			}
			answer := string(s.Client(s.Token).Want(500, "GET", "/api/v1/refs", nil).Body)
			for _, says := range []string{"ref x of repository ", "spoilt", "ostree-upload check --content says how"} {
				if !strings.Contains(answer, says) {
					t.Errorf("it does not say %q: %s", says, answer)
				}
			}
		})
	}
}
