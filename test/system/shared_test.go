// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package system

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A repository that a group shares stays so: whatever a push makes in it has the
// group and the mode of what was there, and another member can commit, delete and
// prune; also with staging in a folder of another group, and a start while a
// transaction of another member is under way. The server has another umask.
func TestSharedRepository(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can act as several users")
	}
	program := oldStateProgram(t)
	openToAll(t, filepath.Dir(program))
	for name, tt := range map[string]struct {
		starter uint32
		state   string
	}{
		"staging inside":  {memberA, ""},
		"staging outside": {memberA, "state"},
		"started by root": {0, "state"},
	} {
		t.Run(name, func(t *testing.T) {
			s := &shared{t: t, dir: t.TempDir(), program: program, starter: tt.starter, state: tt.state}
			openToAll(t, s.dir)
			s.makeRepository()
			stop := s.serve()
			s.push("")
			s.wantShared()
			for _, command := range []string{
				"ostree commit --repo=pub/prod -b os/x86_64/other --tree=dir=tree",
				"ostree refs --repo=pub/prod --delete os/x86_64/stable",
				"ostree prune --repo=pub/prod --refs-only",
			} {
				s.as(memberB, command)
			}
			s.push("more")
			stop()
			s.as(memberA, "ostree fsck --repo=pub/prod")
		})
	}
}

// Two users, who need not exist, and their group.
const memberA, memberB, group = 5001, 5002, 5100

type shared struct {
	t                   *testing.T
	dir, program, state string
	starter             uint32 // of the server
	address             string // of the server, once it runs
}

// makeRepository makes the shared repository, with what another member's
// transaction has there.
func (s *shared) makeRepository() {
	s.as(0, `mkdir pub tree build && echo a >tree/a && ostree init --repo=build --mode=archive
		chown 5001:5100 pub && chmod 2775 pub
		mkdir -m 700 state && chown 5001:5001 state
		$0 gentoken --name ci >token && chown 5001 ostree-upload.yaml`)
	s.as(memberA, `ostree init --repo=pub/prod --mode=archive && mkdir -p state/uploads && find pub/prod -type d -exec chmod g+ws {} +`)
	s.as(memberB, `cd pub/prod/tmp && mkdir staging-live && umask 077 && : >staging-live-lock`)
}

// serve runs the server, until stop.
func (s *shared) serve() (stop func()) {
	s.t.Helper()
	cmd := exec.Command(s.program, "receive", "--repo", "pub/prod", "--address", "127.0.0.1:0")
	if s.state != "" {
		cmd.Args = append(cmd.Args, "--state", s.state)
	}
	cmd.Dir, cmd.SysProcAttr = s.dir, credential(s.starter)
	stderr, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	lines := bufio.NewScanner(stderr)
	for s.address == "" && lines.Scan() {
		s.t.Log(lines.Text())
		if _, rest, is := strings.Cut(lines.Text(), "msg=receiving address="); is {
			s.address, _, _ = strings.Cut(rest, " ")
		}
	}
	if s.address == "" {
		s.t.Fatal("the server does not start")
	}
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		for lines.Scan() {
			s.t.Log(lines.Text())
		}
	}()
	s.t.Cleanup(func() { cmd.Process.Kill(); <-drained }) // before the other one
	return func() {
		cmd.Process.Signal(syscall.SIGTERM)
		<-drained
		if err := cmd.Wait(); err != nil {
			s.t.Errorf("the server ended with %v", err)
		}
	}
}

// push commits a tree and pushes it.
func (s *shared) push(content string) {
	s.t.Helper()
	s.as(0, `echo "`+content+`" >tree/b && ostree commit --repo=build -b os/x86_64/stable --tree=dir=tree
		$0 push --repo build --address http://`+s.address+` --token-file token os/x86_64/stable`)
}

// wantShared looks for what is closed to the group, or not of the group.
func (s *shared) wantShared() {
	s.t.Helper()
	for _, look := range []string{
		`find pub/prod/objects pub/prod/refs -type d ! -perm -2070`,
		`find pub/prod/objects pub/prod/refs ! -group 5100`,
		`find pub/prod/.lock ! -perm -060`,
	} {
		if out := s.as(0, look); out != "" {
			s.t.Errorf("%s:\n%s", look, out)
		}
	}
}

// as is try of what has to succeed.
func (s *shared) as(uid uint32, script string) string {
	s.t.Helper()
	out, err := s.try(uid, script)
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

// try runs a shell script as a user, with the umask of who shares. $0 is the
// program.
func (s *shared) try(uid uint32, script string) (string, error) {
	cmd := exec.CommandContext(s.t.Context(), "sh", "-e", "-c", "umask 002\n"+script, s.program)
	cmd.Dir, cmd.SysProcAttr = s.dir, credential(uid)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("user %d: %s: %w\n%s", uid, script, err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

// credential makes a process one of a user who is in the group.
func credential(uid uint32) *syscall.SysProcAttr {
	if uid == 0 {
		return nil
	}
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid, Groups: []uint32{group}}}
}

// openToAll lets other users into a folder of the test.
func openToAll(t *testing.T, dir string) {
	t.Helper()
	for _, path := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// A lock file of the repository that a command of root made first, and that the
// server's user cannot use, is named at the start, with what to do.
func TestLockOfAnotherUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can act as several users")
	}
	program := oldStateProgram(t)
	openToAll(t, filepath.Dir(program))
	s := &shared{t: t, dir: t.TempDir(), program: program, starter: memberA}
	openToAll(t, s.dir)
	s.makeRepository()
	s.as(0, "rm -f pub/prod/.lock && umask 027 && : >pub/prod/.lock && chown 0:0 pub/prod/.lock")
	_, err := s.try(memberA, "$0 receive --repo pub/prod --address 127.0.0.1:0")
	for _, want := range []string{"cannot use the repository's lock", "hint: another user's command made it: chown 5001 "} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("it does not say %q: %v", want, err)
		}
	}
}
