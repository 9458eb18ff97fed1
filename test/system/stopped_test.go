// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package system

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/site"
)

// filesOf describes all that a folder holds, so that any change of it shows.
func filesOf(t *testing.T, dir string) string {
	t.Helper()
	var list strings.Builder
	must.OK(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		fmt.Fprintf(&list, "%s %s %d %s", path, info.Mode(), info.Size(), info.ModTime())
		if info.Mode().IsRegular() {
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&list, " %x", sha256.Sum256(b))
		}
		list.WriteByte('\n')
		return nil
	}))
	return list.String()
}

// onlyRunning finds what a server counts since its start.
var onlyRunning = regexp.MustCompile(`,\n *"interrupted": \d+`)

// With the server stopped, sessions says of its state folder what it said of the
// server, and changes nothing there.
func TestSessionsOfStoppedServer(t *testing.T) {
	t.Parallel()
	s := site.New(t)
	s.Push(site.Small(t, "os/a", "a"))
	l, b := s.Link(), site.Big(t)
	_, err := site.RunKilled(s.Command("push", "--repo", b.Repo), l, b.Payload/2)
	must.OK(t, err)
	watcher := strings.TrimSpace(s.Run("gentoken", "--name", "watcher", "--scope", "metrics").Must(t, 0).Stdout)
	must.Wait(t, "the server knows that its client is gone", func() bool { // none is open but the one that asks
		return gauge(t, "http://"+s.Server.Address, watcher, "ostree_upload_connections") <= 1
	})
	open := s.OpenSession()
	commit, err := ostree.ParseChecksum(b.Commit)
	must.OK(t, err)
	// Waits until all that has come is verified.
	_, err = s.API().Negotiate(t.Context(), open.ID, []ostree.Name{{Checksum: commit, Type: ostree.CommitObject}})
	must.OK(t, err)

	state := filepath.Join(s.Prod, ".ostree-upload")
	while := s.Run("sessions", "--state", state).Must(t, 1)
	if !strings.Contains(while.Stderr, "has the state folder "+state+" open") || !strings.Contains(while.Stderr, "--address") {
		t.Errorf("while the server runs: %s", while.Stderr)
	}
	asked := [][]string{{"--json"}, {"list", "--json", "--status", "open"}, {"--json", "--status", "failed"}, {"show", open.ID, "--json"}, {"show", open.ID}}
	running := make([]string, len(asked))
	for i, args := range asked {
		told := s.Run(append([]string{"sessions"}, args...)...).Must(t, 0).Stdout
		running[i] = onlyRunning.ReplaceAllString(told, "")
	}
	if !strings.Contains(running[3], `"offset": `) {
		t.Errorf("no upload was cut, so this shows little: %s", running[3])
	}
	must.OK(t, s.Server.Stop())
	before := filesOf(t, state)
	for i, args := range asked {
		if got := s.Run(append([]string{"sessions", "--state", state}, args...)...).Must(t, 0); got.Stdout != running[i] || got.Stderr != "" {
			t.Errorf("sessions %s: running\n%s\nstopped\n%s%s", strings.Join(args, " "), running[i], got.Stdout, got.Stderr)
		}
	}
	for _, refused := range []struct {
		args []string
		exit int
		says string
	}{
		{[]string{"abort", open.ID}, 2, "start the server"},
		{[]string{"--watch"}, 2, "--watch and --state"},
		{[]string{"show", "aaaaaaaaaaaaaaaa"}, 1, `no session "aaaaaaaaaaaaaaaa" in ` + state},
	} {
		if got := s.Run(append([]string{"sessions", "--state", state}, refused.args...)...).Must(t, refused.exit); !strings.Contains(got.Stderr, refused.says) || got.Stdout != "" {
			t.Errorf("%v: %+v", refused.args, got)
		}
	}
	if got := s.Run("sessions", "--state", s.Prod).Must(t, 1); !strings.Contains(got.Stderr, "--state "+state) {
		t.Errorf("the repository: %+v", got)
	}
	if got := s.Run("sessions", "--state", s.Dir).Must(t, 1); !strings.Contains(got.Stderr, "no journal") || !strings.Contains(got.Stderr, "hint: ") {
		t.Errorf("another folder: %+v", got)
	}
	if after := filesOf(t, state); after != before {
		t.Errorf("the state folder changed from\n%s\nto\n%s", before, after)
	}
	otherUsers(t, s, state)
}

// otherUsers looks as the owner of the folder, who is not root, and as somebody else.
func otherUsers(t *testing.T, s *site.Site, state string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to be other users")
	}
	const owner, other = 65533, 65534
	dir := openFolder(t)
	must.Run(t, "cp", "-r", state, filepath.Join(dir, "state"))
	path, err := exec.LookPath("ostree-upload")
	must.OK(t, err)
	must.Run(t, "cp", path, filepath.Join(dir, "program"))
	must.Run(t, "chown", "-R", fmt.Sprint(owner), filepath.Join(dir, "state"))
	must.OK(t, errors.Join(os.Chmod(filepath.Join(dir, "program"), 0o755), os.Chmod(filepath.Join(dir, "state"), 0o700)))
	for user, exit := range map[uint32]int{owner: 0, other: 1} {
		cmd := exec.Command(filepath.Join(dir, "program"), "sessions", "--state", filepath.Join(dir, "state"))
		cmd.Dir = dir
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}}
		got := site.Finish(t, cmd).Must(t, exit)
		if user == other && !strings.Contains(got.Stderr, "as the owner of the repository") || user == owner && strings.Count(got.Stdout, "\n") != 3 {
			t.Errorf("user %d: %+v", user, got)
		}
	}
}

// A journal that is damaged, in whichever way, is told with words, and is left as it is.
func TestSessionsOfDamagedState(t *testing.T) {
	t.Parallel()
	s := site.New(t)
	s.Push(site.Small(t, "os/a", "a"))
	must.OK(t, s.Server.Stop())
	sound, err := os.ReadFile(filepath.Join(s.Prod, ".ostree-upload", "journal.db"))
	must.OK(t, err)
	spoiled := func(from, to int, with byte) []byte {
		b := []byte(string(sound))
		for i := from; i < min(to, len(b)); i++ {
			b[i] = with
		}
		return b
	}
	for name, content := range map[string][]byte{
		"empty": {}, "no database": []byte("hello"), "cut": sound[:3*4096], "zeros": make([]byte, 1<<16),
		"meta pages": spoiled(0, 8192, 0xff), "all other pages": spoiled(8192, len(sound), 0xa5), "zeroed pages": spoiled(8192, len(sound), 0),
		"a folder": nil,
	} {
		t.Run(name, func(t *testing.T) {
			state := t.TempDir()
			if path := filepath.Join(state, "journal.db"); content == nil {
				must.OK(t, os.Mkdir(path, 0o700))
			} else {
				must.OK(t, os.WriteFile(path, content, 0o600))
			}
			before := filesOf(t, state)
			for _, args := range [][]string{{"--json"}, {"show", "aaaaaaaaaaaaaaaa"}} {
				got := s.Run(append([]string{"sessions", "--state", state}, args...)...).Must(t, 1)
				if !strings.Contains(got.Stderr, "journal.db") || strings.Contains(got.Stderr, "goroutine") {
					t.Errorf("%v: %s", args, got.Stderr)
				}
				if content != nil && !strings.Contains(got.Stderr, "hint: ") {
					t.Errorf("%v: no next step: %s", args, got.Stderr)
				}
			}
			if after := filesOf(t, state); after != before {
				t.Errorf("changed from\n%s\nto\n%s", before, after)
			}
		})
	}
}
