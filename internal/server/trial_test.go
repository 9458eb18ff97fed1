// SPDX-License-Identifier: AGPL-3.0-or-later

package server_test

import (
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/libostree"
	"github.com/lirios/ostree-upload/internal/server"
	"github.com/lirios/ostree-upload/test/must"
)

// open opens a server on a repository and closes it again.
func open(t *testing.T, repo, state string) error {
	t.Helper()
	s, err := server.Open(t.Context(), server.Options{
		Repo: repo, State: state, Settings: config.Default, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	if err != nil {
		return err
	}
	return s.Close(true)
}

// A repository whose objects are a link to another disk cannot take any: libostree
// renames them into it. The start says so, and what helps; a state folder on another
// disk is no reason.
func TestObjectsOnOtherDisk(t *testing.T) {
	repo := filepath.Join(t.TempDir(), "prod")
	must.OK(t, os.Mkdir(repo, 0o755))
	must.OK(t, libostree.Init(repo, "archive"))
	other, err := os.MkdirTemp("/dev/shm", "objects")
	if err != nil {
		t.Skip("there is no /dev/shm")
	}
	t.Cleanup(func() { os.RemoveAll(other) })
	var a, b unix.Stat_t
	must.OK(t, errors.Join(unix.Stat(other, &a), unix.Stat(repo, &b)))
	if a.Dev == b.Dev {
		t.Skip("/dev/shm is no other file system")
	}
	must.OK(t, open(t, repo, filepath.Join(other, "state")))
	objects := filepath.Join(repo, "objects")
	must.OK(t, os.Remove(objects))
	must.OK(t, os.Symlink(other, objects))
	err = open(t, repo, filepath.Join(repo, ".ostree-upload"))
	var hinted interface{ Hint() string }
	if !errors.Is(err, unix.EXDEV) || !errors.As(err, &hinted) || !strings.Contains(hinted.Hint(), "one file system") {
		t.Errorf("error %v", err)
	}
}

// TestWithoutLinks also is the program that it runs, without hard links.
func TestWithoutLinks(t *testing.T) {
	const in = "SERVER_WITHOUT_LINKS"
	if dir := os.Getenv(in); dir != "" {
		err := open(t, filepath.Join(dir, "prod"), filepath.Join(dir, "state"))
		if !errors.Is(err, unix.EOPNOTSUPP) || !strings.Contains(err.Error(), "no staged object can come into the repository") {
			t.Errorf("error %v", err)
		}
		return
	}
	if b, err := exec.Command("strace", "true").CombinedOutput(); err != nil {
		t.Skipf("strace cannot trace here: %v: %s", err, b)
	}
	dir := t.TempDir()
	must.OK(t, os.Mkdir(filepath.Join(dir, "prod"), 0o755))
	must.OK(t, libostree.Init(filepath.Join(dir, "prod"), "archive"))
	cmd := exec.Command("strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=linkat,link",
		"-e", "inject=linkat,link:error=EOPNOTSUPP", os.Args[0], "-test.run=^TestWithoutLinks$")
	cmd.Env = append(os.Environ(), in+"="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
