// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/internal/push"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/link"
)

// A site is a production host, seen by its clients.
type site struct {
	t      *testing.T
	dir    string
	prod   string    // the repository
	token  string    // of scope push
	url    string    // what clients connect to
	server *receiver // nil while none runs
}

// newSite makes a configuration with a token and starts a server of an empty
// repository. At the test's end the repository must pass ostree fsck.
func newSite(t *testing.T) *site {
	t.Helper()
	dir := t.TempDir()
	s := &site{t: t, dir: dir, prod: filepath.Join(dir, "prod")}
	s.token = strings.TrimSpace(s.run("gentoken", "--name", "ci").must(t, 0).stdout)
	t.Cleanup(s.end)
	s.start("--init")
	return s
}

// start starts the server; clients that go to it directly have to know.
func (s *site) start(args ...string) {
	s.t.Helper()
	s.checkRaces()
	r, err := startReceiver(s.dir, os.Environ(), append([]string{"--repo", "prod"}, args...)...)
	if err != nil {
		s.t.Fatal(err)
	}
	s.server, s.url = r, "http://"+r.address
}

func (s *site) end() {
	if s.server == nil {
		return // it did not start
	}
	s.server.kill()
	s.checkRaces()
	if out, err := fsck(s.prod); err != nil {
		s.t.Errorf("ostree fsck: %v\n%s", err, out)
	}
	if s.t.Failed() {
		s.t.Logf("the server's log:\n%s", &s.server.log)
	}
}

// checkRaces looks through the log of the server that runs or ran.
func (s *site) checkRaces() {
	s.t.Helper()
	if s.server == nil {
		return
	}
	if races := dataRaces(s.server.log.String()); races != "" {
		s.t.Errorf("the server:\n%s", races)
	}
}

// link puts a link between the server and its clients.
func (s *site) link() *link.Proxy {
	s.t.Helper()
	l, err := link.Listen(s.server.address)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { l.Close() })
	s.url = "http://" + l.Address()
	return l
}

// restart starts the server again, at another port, and leads the link there.
func (s *site) restart(l *link.Proxy) {
	s.t.Helper()
	url := s.url
	s.start()
	s.url = url
	l.Target(s.server.address)
}

// command is ostree-upload with the site's address and token.
func (s *site) command(args ...string) *exec.Cmd {
	cmd := exec.Command("ostree-upload", args...)
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), "OSTREE_UPLOAD_ADDRESS="+s.url, "OSTREE_UPLOAD_TOKEN="+s.token)
	return cmd
}

// An ending is what a command left.
type ending struct {
	exit           int
	stdout, stderr string
}

func (s *site) run(args ...string) ending {
	s.t.Helper()
	return finish(s.t, s.command(args...))
}

func finish(t *testing.T, cmd *exec.Cmd) ending {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if races := dataRaces(stderr.String()); races != "" {
		t.Errorf("the client:\n%s", races)
	}
	return ending{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// must fails the test unless the exit code is this one.
func (o ending) must(t *testing.T, exit int) ending {
	t.Helper()
	if o.exit != exit {
		t.Fatalf("exit code %d, want %d\nstdout:\n%s\nstderr:\n%s", o.exit, exit, o.stdout, o.stderr)
	}
	return o
}

// result is what push --json says.
func (o ending) result(t *testing.T) push.Result {
	t.Helper()
	var r push.Result
	if err := json.Unmarshal([]byte(o.stdout), &r); err != nil {
		t.Fatalf("%v\nstdout:\n%s\nstderr:\n%s", err, o.stdout, o.stderr)
	}
	return r
}

// push pushes a build and must succeed.
func (s *site) push(b *build, args ...string) push.Result {
	s.t.Helper()
	args = append([]string{"push", "--json", "--repo", b.repo}, args...)
	return s.run(args...).must(s.t, 0).result(s.t)
}

// sessions lists the sessions in a state.
func (s *site) sessions(state string) []wire.Session {
	s.t.Helper()
	var list wire.SessionList
	out := s.run("sessions", "--json", "--status", state).must(s.t, 0).stdout
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		s.t.Fatalf("%v\n%s", err, out)
	}
	return list.Sessions
}

// openSession is the one session that is open.
func (s *site) openSession() wire.Session {
	s.t.Helper()
	list := s.sessions(wire.Open)
	if len(list) != 1 {
		s.t.Fatalf("%d open sessions, want one", len(list))
	}
	return list[0]
}

// noRefs checks that nothing was published.
func (s *site) noRefs() {
	s.t.Helper()
	if refs := runOSTree(s.t, "refs", "--repo="+s.prod); refs != "" {
		s.t.Errorf("there are refs already: %s", refs)
	}
}
