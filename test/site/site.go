// SPDX-License-Identifier: AGPL-3.0-or-later

// Package site runs the program as people do: a Site is a production host with its
// repository and a server, a Build or a Twin is what its clients push. What runs is
// a real ostree-upload that Main puts on the PATH, beside a real ostree.
//
//   - A package that uses it has Main as its TestMain.
//   - A site's End, which New and its like run when the test ends, checks that the
//     repository passes ostree fsck and that no process reported a data race.
//   - A Scenario is played with a Mishap at each point that the server comes to
//     (internal/fault): see EveryMishap.
//   - Root is needed for a Disk; a test that asks for one is skipped without.
//   - Sizes are bytes.
//
// A site belongs to one test; only its Command may be called from several
// goroutines.
package site

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/client"
	"github.com/lirios/ostree-upload/internal/push"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/link"
	"github.com/lirios/ostree-upload/test/must"
)

// A Site is a production host, seen by its clients.
type Site struct {
	T      *testing.T
	Dir    string
	Prod   string    // the repository
	Token  string    // of scope push
	URL    string    // what clients connect to
	Server *Receiver // nil while none runs
	Bucket *Bucket   // nil: the repository is on the disk
}

// New makes a configuration with a token and starts a server of an empty
// repository. At the test's end the repository must pass ostree fsck.
func New(t *testing.T) *Site {
	t.Helper()
	s := At(t, t.TempDir())
	s.MakeToken()
	t.Cleanup(s.End)
	s.Start("--init")
	return s
}

// NewOf is New with a production repository of a mode.
func NewOf(t *testing.T, mode string) *Site {
	t.Helper()
	if mode == "bare" && os.Geteuid() != 0 {
		t.Skip("needs root: a bare repository can only be written by it")
	}
	s := At(t, t.TempDir())
	s.MakeToken("--scope", "push", "--scope", "force")
	must.OSTree(t, "init", "--repo="+s.Prod, "--mode="+mode)
	t.Cleanup(s.End)
	s.Start()
	return s
}

// At is the site in a folder, without a server or a token.
func At(t *testing.T, dir string) *Site {
	return &Site{T: t, Dir: dir, Prod: filepath.Join(dir, "prod")}
}

// MakeToken adds a token to the configuration, which it makes if there is none.
func (s *Site) MakeToken(args ...string) {
	s.T.Helper()
	made := s.Run(append([]string{"gentoken", "--name", "ci"}, args...)...).Must(s.T, 0)
	s.Token = strings.TrimSpace(made.Stdout)
}

// Configure adds a line to the configuration.
func (s *Site) Configure(line string) {
	s.T.Helper()
	f, err := os.OpenFile(s.Config(), os.O_WRONLY|os.O_APPEND, 0)
	must.OK(s.T, err)
	_, err = f.WriteString(line + "\n")
	must.OK(s.T, err)
	must.OK(s.T, f.Close())
}

// Config is the file of the configuration.
func (s *Site) Config() string { return filepath.Join(s.Dir, "ostree-upload.yaml") }

// Start starts the server; clients that go to it directly have to know.
func (s *Site) Start(args ...string) {
	s.T.Helper()
	s.checkRaces()
	r, err := StartReceiver(s.Dir, s.env(), append(s.placeFlags(), args...)...)
	if err != nil {
		s.T.Fatal(err)
	}
	s.Server, s.URL = r, "http://"+r.Address
}

// End kills the server that runs and checks what is left.
func (s *Site) End() {
	if s.Server == nil {
		return // it did not start
	}
	s.Server.Kill()
	s.checkRaces()
	if s.T.Skipped() {
		return // its disk may be cut
	}
	s.Look()
	if out, err := Fsck(s.Prod); err != nil {
		s.T.Errorf("ostree fsck: %v\n%s", err, out)
	}
	if s.T.Failed() {
		s.T.Logf("the server's log:\n%s", &s.Server.Log)
	}
}

// checkRaces looks through the log of the server that runs or ran.
func (s *Site) checkRaces() {
	s.T.Helper()
	if s.Server == nil {
		return
	}
	if races := DataRaces(s.Server.Log.String()); races != "" {
		s.T.Errorf("the server:\n%s", races)
	}
}

// Link puts a link between the server and its clients.
func (s *Site) Link() *link.Proxy {
	s.T.Helper()
	l, err := link.Listen(s.Server.Address)
	if err != nil {
		s.T.Fatal(err)
	}
	s.T.Cleanup(func() { l.Close() })
	s.URL = "http://" + l.Address()
	return l
}

// Restart starts the server again, at another port, and leads the link there.
func (s *Site) Restart(l *link.Proxy) {
	s.T.Helper()
	url := s.URL
	s.Start()
	s.URL = url
	l.Target(s.Server.Address)
}

// Push pushes a build and must succeed.
func (s *Site) Push(b *Build, args ...string) push.Result {
	s.T.Helper()
	args = append([]string{"push", "--json", "--repo", b.Repo}, args...)
	return s.Run(args...).Must(s.T, 0).Result(s.T)
}

// PushAs points a ref of the build repository to a commit and pushes it.
func (s *Site) PushAs(b *Build, ref, commit string, args ...string) push.Result {
	s.T.Helper()
	Branch(s.T, b.Repo, ref, commit)
	return s.Push(b, append(args, ref)...)
}

// API is a client of the running server, past any link.
func (s *Site) API() *client.Client {
	s.T.Helper()
	c, err := client.New("http://"+s.Server.Address, s.Token)
	must.OK(s.T, err)
	s.T.Cleanup(c.Close)
	return c
}

// Sessions lists the sessions in a state.
func (s *Site) Sessions(state string) []wire.Session {
	s.T.Helper()
	var list wire.SessionList
	out := s.Run("sessions", "--json", "--status", state).Must(s.T, 0).Stdout
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		s.T.Fatalf("%v\n%s", err, out)
	}
	return list.Sessions
}

// OpenSession is the one session that is open.
func (s *Site) OpenSession() wire.Session {
	s.T.Helper()
	list := s.Sessions(wire.Open)
	if len(list) != 1 {
		s.T.Fatalf("%d open sessions, want one", len(list))
	}
	return list[0]
}

// UntilState returns true when the session under way at a server is in a state,
// or beyond it, and false when ctx ends.
func UntilState(ctx context.Context, c *client.Client, state string) bool {
	for ctx.Err() == nil {
		all, err := c.Sessions(ctx, "")
		if err != nil || len(all) == 0 || over(all[0].State) {
			continue // it is not opened yet
		}
		at := all[0]
		for err == nil && (at.State == wire.Open || at.State == wire.Verifying && state == wire.Publishing) {
			at, err = c.Session(ctx, at.ID, 10*time.Second)
		}
		if err == nil {
			return true
		}
	}
	return false
}

func over(state string) bool {
	return state != wire.Open && state != wire.Verifying && state != wire.Publishing
}
