// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package system

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/lirios/ostree-upload/internal/push"
	"github.com/lirios/ostree-upload/test/must"
	ts "github.com/lirios/ostree-upload/test/server"
)

// A told is a push by the program, as a user, and what it told.
type told struct {
	exit           int
	stdout, stderr string
}

// pushAs runs the program's push; user 0 is the one of this test.
func pushAs(t *testing.T, user uint32, s *ts.Server, program, repo string, flags ...string) told {
	t.Helper()
	cmd := exec.Command(program, append([]string{"push", "--repo", repo}, flags...)...)
	cmd.Env = append(os.Environ(), "OSTREE_UPLOAD_ADDRESS="+s.URL, "OSTREE_UPLOAD_TOKEN="+s.Token)
	if user != 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}}
	}
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) {
		t.Fatal(err)
	}
	return told{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// openFolder is a temporary folder that every user can read.
func openFolder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ostree-upload-told")
	must.OK(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	must.OK(t, os.Chmod(dir, 0o755))
	return dir
}

// commitTo commits the files of a tree, by name, to a repository of a mode.
func commitTo(t *testing.T, repo, mode, branch string, tree map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range tree {
		must.OK(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	if _, err := os.Stat(repo); err != nil {
		must.OSTree(t, "init", "--repo="+repo, "--mode="+mode)
	}
	return must.OSTree(t, "commit", "--repo="+repo, "--branch="+branch, "--tree=dir="+dir)
}

// What a person should know of a session although it is published is told by the
// push itself: on stderr, and in the document.
func TestPublishedButTold(t *testing.T) {
	program, s, repo := oldStateProgram(t), ts.Start(t, "archive"), filepath.Join(t.TempDir(), "build")
	commitTo(t, repo, "archive", "x", map[string]string{"a": "1"})
	if got := pushAs(t, 0, s, program, repo); got.exit != 0 {
		t.Fatalf("%+v", got)
	}
	summary := filepath.Join(s.Repo, "summary")
	must.OK(t, errors.Join(os.RemoveAll(summary), os.MkdirAll(filepath.Join(summary, "in-the-way"), 0o755)))
	t.Cleanup(func() { os.RemoveAll(summary) })
	for i, flag := range []string{"--jobs=1", "--json"} {
		commitTo(t, repo, "archive", "x", map[string]string{"a": "2" + flag})
		got := pushAs(t, 0, s, program, repo, flag)
		if got.exit != 0 || !strings.Contains(got.stderr, "published, but: the summary could not be written") {
			t.Errorf("%+v", got)
		}
		var result push.Result
		if i == 1 {
			must.OK(t, json.Unmarshal([]byte(got.stdout), &result))
			if !strings.Contains(result.Session.Detail, "summary") {
				t.Errorf("%+v", result.Session)
			}
		}
	}
}

// What another user cannot read of a bare repository is named by its path, and that
// root can; nothing of it is called damaged.
func TestBareRepositoryOfRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	dir, s := openFolder(t), ts.Start(t, "archive")
	program := filepath.Join(dir, "program")
	b, err := os.ReadFile(oldStateProgram(t))
	must.OK(t, err)
	must.OK(t, os.WriteFile(program, b, 0o755))
	for name, spoil := range map[string]func(path string) error{
		"trusted": func(path string) error { return unix.Lsetxattr(path, "trusted.a", []byte("1"), 0) },
		"closed":  func(path string) error { return os.Chmod(path, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			repo, tree := filepath.Join(dir, name), t.TempDir()
			must.OSTree(t, "init", "--repo="+repo, "--mode=bare")
			must.OK(t, os.WriteFile(filepath.Join(tree, "victim"), []byte(name), 0o644))
			must.OK(t, spoil(filepath.Join(tree, "victim")))
			must.OSTree(t, "commit", "--repo="+repo, "--branch="+name, "--tree=dir="+tree)
			got := pushAs(t, 65534, s, program, repo)
			if got.exit != 1 || !strings.Contains(got.stderr, "/victim of ref "+name) || !strings.Contains(got.stderr, "push as root") || strings.Contains(got.stderr, "damaged") {
				t.Errorf("%+v", got)
			}
			if got := pushAs(t, 0, s, program, repo); got.exit != 0 {
				t.Errorf("as root: %+v", got)
			}
		})
	}
}

// A push with nothing to do tells of history that an earlier one left out; an
// explicit --depth -1 sends it as --history does, and a new push of all refs leaves
// out what cannot be pushed and says so.
func TestHistoryAndLeftRefsTold(t *testing.T) {
	program, s, repo := oldStateProgram(t), ts.Start(t, "archive"), filepath.Join(t.TempDir(), "build")
	var commit string
	for _, text := range []string{"1", "2", "3"} {
		commit = commitTo(t, repo, "archive", "x", map[string]string{"a": text})
	}
	for _, c := range []struct {
		flags []string
		exit  int
		says  string
	}{
		{[]string{"--depth", "0"}, 0, "published x"},
		{nil, 0, "nothing to do\nthe server lacks older commits of these refs (2): push --history sends them"},
		{[]string{"--history", "--depth", "1"}, 2, ""},
		{[]string{"--depth", "-1"}, 0, "published x"},
		{[]string{"--history"}, 0, "nothing to do\n"},
	} {
		got := pushAs(t, 0, s, program, repo, c.flags...)
		if got.exit != c.exit || !strings.Contains(got.stdout+got.stderr, c.says) {
			t.Errorf("%v: %+v", c.flags, got)
		}
	}
	if log := must.OSTree(t, "log", "--repo="+s.Repo, "x"); strings.Count(log, "commit ") != 3 {
		t.Errorf("the server's history:\n%s", log)
	}
	must.OSTree(t, "refs", "--repo="+repo, "--create=y", commit)
	commitTo(t, repo, "archive", "x", map[string]string{"a": "4"})
	got := pushAs(t, 0, s, program, repo)
	if got.exit != 3 || !strings.Contains(got.stdout, "published x") || !strings.Contains(got.stderr, "left out 1 of the refs: ref y: its commit is bound") {
		t.Errorf("%+v", got)
	}
	var result push.Result
	got = pushAs(t, 0, s, program, repo, "--json")
	must.OK(t, json.Unmarshal([]byte(got.stdout), &result))
	if len(result.Left) != 1 || result.Left[0].Ref != "y" || result.ExitCode != 3 {
		t.Errorf("%+v", result)
	}
}
