// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package system

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/site"
)

// Root's check of another user's repository is done as that user: the server's
// own files stay theirs, and the server starts again.
func TestCheckAsRoot(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it becomes another user")
	}
	const owner = 12345
	dir := t.TempDir()
	must.OK(t, os.Chmod(filepath.Dir(dir), 0o755)) // so that others get there
	s := site.At(t, dir)
	s.MakeToken()
	configuration := s.Config()
	must.OK(t, os.Chmod(configuration, 0o644))
	must.OK(t, os.Mkdir(s.Prod, 0o755))
	must.OK(t, os.Chown(s.Prod, owner, owner))
	t.Cleanup(s.End)
	s.Start("--init")
	must.OK(t, s.Server.Stop())
	lock := filepath.Join(s.Prod, ".ostree-upload.lock")
	for _, args := range [][]string{{"--repair"}, {"--config", "none"}} {
		must.OK(t, os.Remove(lock))
		s.Run(append([]string{"check", "--repo", "prod"}, args...)...).Must(t, 0)
		var st unix.Stat_t
		must.OK(t, unix.Stat(lock, &st))
		if st.Uid != owner {
			t.Errorf("check %v: the lock belongs to user %d", args, st.Uid)
		}
	}
	s.Start()
	must.OK(t, s.Server.Stop())
	must.OK(t, os.Chmod(configuration, 0o600))
	e := s.Run("check", "--repo", "prod").Must(t, 1)
	if !strings.Contains(e.Stderr, "cannot read the configuration") || !strings.Contains(e.Stderr, "hint: chgrp 12345") {
		t.Errorf("it says %s", e.Stderr)
	}
}
