// SPDX-License-Identifier: AGPL-3.0-or-later

package site

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/lirios/ostree-upload/test/must"
)

// NoRefs checks that nothing was published.
func (s *Site) NoRefs() {
	s.T.Helper()
	if refs := must.OSTree(s.T, "refs", "--repo="+s.Prod); refs != "" {
		s.T.Errorf("there are refs already: %s", refs)
	}
}

// AtHead checks what a ref of the production repository names.
func (s *Site) AtHead(ref, commit string) {
	s.T.Helper()
	if head := must.OSTree(s.T, "rev-parse", "--repo="+s.Prod, ref); head != commit {
		s.T.Errorf("%s is %s, want %s", ref, head, commit)
	}
}

// Staged is where the server keeps what it verified.
func (s *Site) Staged() string {
	state := filepath.Join(s.Prod, ".ostree-upload")
	if s.Bucket != nil {
		state = filepath.Join(s.Dir, "state")
	}
	return filepath.Join(state, "staged", "objects")
}

// EmptyStaging takes away the objects of sessions that have ended, as the server
// does from time to time: in staging they could stand in for what is missing.
func (s *Site) EmptyStaging() {
	s.T.Helper()
	files, err := filepath.Glob(filepath.Join(s.Staged(), "*", "*"))
	must.OK(s.T, err)
	for _, f := range files {
		must.OK(s.T, os.Remove(f))
	}
}

// Fsck checks a repository if there is one.
func Fsck(repo string) (string, error) {
	if _, err := os.Stat(filepath.Join(repo, "config")); errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	out, err := exec.Command("ostree", "fsck", "--repo="+repo).CombinedOutput()
	return string(out), err
}

// PartialMark is where libostree notes that a commit is incomplete.
func PartialMark(repo, commit string) string {
	return filepath.Join(repo, "state", commit+".commitpartial")
}

// LockRepository takes libostree's exclusive lock, which each publish waits for.
func LockRepository(t *testing.T, repo string) (unlock func()) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(repo, ".lock"), os.O_RDWR|os.O_CREATE, 0o660)
	must.OK(t, err)
	must.OK(t, unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLKW, &unix.Flock_t{Type: unix.F_WRLCK}))
	return func() { must.OK(t, f.Close()) }
}

// Missing tells whether there is nothing at a path.
func Missing(path string) bool {
	_, err := os.Lstat(path)
	return errors.Is(err, fs.ErrNotExist)
}
