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

// foreignOwner owns what ownedSite makes.
const foreignOwner = 12345

// ownedSite is the site of a repository of another user, whose server root has started.
func ownedSite(t *testing.T, args ...string) *site.Site {
	t.Helper()
	dir := t.TempDir()
	must.OK(t, os.Chmod(filepath.Dir(dir), 0o755)) // so that others get there
	s := site.At(t, dir)
	s.MakeToken()
	must.OK(t, os.Chmod(s.Config(), 0o644))
	must.OK(t, os.Mkdir(s.Prod, 0o755))
	must.OK(t, os.Chown(s.Prod, foreignOwner, foreignOwner))
	t.Cleanup(s.End)
	s.Start(append([]string{"--init"}, args...)...)
	return s
}

func ownerOf(t *testing.T, path string) uint32 {
	t.Helper()
	var st unix.Stat_t
	must.OK(t, unix.Stat(path, &st))
	return st.Uid
}

// Root's check of another user's repository is done as that user: the server's
// own files stay theirs, and the server starts again.
func TestCheckAsRoot(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it becomes another user")
	}
	s := ownedSite(t)
	must.OK(t, s.Server.Stop())
	lock := filepath.Join(s.Prod, ".ostree-upload.lock")
	for _, args := range [][]string{{"--repair"}, {"--config", "none"}} {
		must.OK(t, os.Remove(lock))
		s.Run(append([]string{"check", "--repo", "prod"}, args...)...).Must(t, 0)
		if uid := ownerOf(t, lock); uid != foreignOwner {
			t.Errorf("check %v: the lock belongs to user %d", args, uid)
		}
	}
	s.Start()
	must.OK(t, s.Server.Stop())
	must.OK(t, os.Chmod(s.Config(), 0o600))
	e := s.Run("check", "--repo", "prod").Must(t, 1)
	if !strings.Contains(e.Stderr, "cannot read the configuration") || !strings.Contains(e.Stderr, "hint: chgrp 12345") {
		t.Errorf("it says %s", e.Stderr)
	}
}
