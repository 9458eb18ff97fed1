// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
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
	check(t, os.Chmod(filepath.Dir(dir), 0o755)) // so that others get there
	s := &site{t: t, dir: dir, prod: filepath.Join(dir, "prod")}
	s.token = strings.TrimSpace(s.run("gentoken", "--name", "ci").must(t, 0).stdout)
	configuration := filepath.Join(dir, "ostree-upload.yaml")
	check(t, os.Chmod(configuration, 0o644))
	check(t, os.Mkdir(s.prod, 0o755))
	check(t, os.Chown(s.prod, owner, owner))
	t.Cleanup(s.end)
	s.start("--init")
	check(t, s.server.stop())
	lock := filepath.Join(s.prod, ".ostree-upload.lock")
	for _, args := range [][]string{{"--repair"}, {"--config", "none"}} {
		check(t, os.Remove(lock))
		s.run(append([]string{"check", "--repo", "prod"}, args...)...).must(t, 0)
		st, err := os.Stat(lock)
		check(t, err)
		if uid := st.Sys().(*syscall.Stat_t).Uid; uid != owner {
			t.Errorf("check %v: the lock belongs to user %d", args, uid)
		}
	}
	s.start()
	check(t, s.server.stop())
	check(t, os.Chmod(configuration, 0o600))
	e := s.run("check", "--repo", "prod").must(t, 1)
	if !strings.Contains(e.stderr, "cannot read the configuration") || !strings.Contains(e.stderr, "hint: chgrp 12345") {
		t.Errorf("it says %s", e.stderr)
	}
}
