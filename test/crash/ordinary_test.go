// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package crash

import (
	"path/filepath"
	"testing"

	"github.com/lirios/ostree-upload/test/site"
)

// An ordinary build knows nothing of faults.
func TestOrdinaryBuild(t *testing.T) {
	t.Parallel()
	s := site.At(t, t.TempDir())
	f := &site.Mishap{Point: "name it#1", Effect: "kill-before", Record: filepath.Join(s.Dir, "points")}
	cmd := s.Command("gentoken")
	cmd.Env = append(cmd.Env, f.Env(s.Dir)...)
	site.Finish(t, cmd).Must(t, 0)
	if points := f.Points(t); len(points) > 0 {
		t.Errorf("it came to %v", points)
	}
}
