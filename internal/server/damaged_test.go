// SPDX-License-Identifier: AGPL-3.0-or-later

package server_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/lirios/ostree-upload/test/must"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/hint"
	"github.com/lirios/ostree-upload/internal/server"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/journal"
	ts "github.com/lirios/ostree-upload/test/server"
)

// damage overwrites pages of a journal with zeros.
func damage(t *testing.T, state string) (path string) {
	t.Helper()
	path = filepath.Join(state, "journal.db")
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must.OK(t, err)
	_, err = f.WriteAt(make([]byte, 4*os.Getpagesize()), int64(2*os.Getpagesize()))
	must.OK(t, errors.Join(err, f.Close()))
	return path
}

// A damaged journal keeps the server from starting, with what to do. A repair sets
// it aside, and a push that was under way comes again and finds what it had sent.
func TestDamagedJournal(t *testing.T) {
	build := filepath.Join(t.TempDir(), "build")
	commit := ts.Commit(t, build, "x", "salt", 20)
	s := ts.Start(t, "archive")
	c := s.Client(s.Token)
	all := ts.Objects(t, build, commit)
	lost := c.Open(wire.Ref{Ref: "x", New: commit.String()})
	c.Upload(lost.ID, "all", ts.Pack(t, build, c.Negotiate(lost.ID, all...)...))
	c.Negotiate(lost.ID, all...) // waits until they are verified
	s.Stop()
	defer s.Run() // which the end of the test stops
	path := damage(t, s.State)

	opt := server.Options{Repo: s.Repo, State: s.State, Settings: config.Default, Log: ts.Logger(t)}
	_, err := server.Open(t.Context(), opt)
	if damaged := new(journal.DamagedError); !errors.As(err, &damaged) || !strings.Contains(hint.Of(err), "check --repair") || strings.Contains(err.Error(), "\n") {
		t.Errorf("start: %v, hint %q", err, hint.Of(err))
	}
	if _, err := server.Check(t.Context(), opt, false); !errors.As(err, new(*journal.DamagedError)) {
		t.Errorf("check: %v", err)
	}
	report, err := server.Check(t.Context(), opt, true)
	must.OK(t, err)
	aside, err := filepath.Glob(path + ".damaged-*")
	must.OK(t, err)
	if len(report.Findings) > 0 || len(aside) != 1 || !strings.Contains(strings.Join(report.Notes, "\n"), aside[0]) {
		t.Errorf("repair: %+v, set aside %v", report, aside)
	}

	s.Run()
	_, err = s.Clean(t.Context())
	must.OK(t, err)
	c = s.Client(s.Token)
	again := c.Open(wire.Ref{Ref: "x", New: commit.String()})
	if lacking := c.Negotiate(again.ID, all...); len(lacking) > 0 {
		t.Errorf("%d of %d objects have to be sent again", len(lacking), len(all))
	}
	if got := c.Finalize(again.ID); got.State != wire.Published {
		t.Errorf("%+v", got)
	}
	s.Stop()
	must.OK(t, os.Remove(aside[0]))
	s.Run()
	// The janitor of the start may be at it, too: each passes over what the other has.
	must.Wait(t, "nothing is staged any more", func() bool {
		_, err := s.Clean(t.Context())
		must.OK(t, err)
		left, err := filepath.Glob(filepath.Join(s.State, "staged", "objects", "*", "*"))
		must.OK(t, err)
		return len(left) == 0
	})
	s.Stop()
}

// Damage that a request meets later makes the server unhealthy and ends it, as after
// a crash, instead of the process at once.
func TestDamageUnderAServer(t *testing.T) {
	state := t.TempDir()
	repo := filepath.Join(state, "prod")
	must.OK(t, os.Mkdir(repo, 0o755))
	must.OSTree(t, "init", "--repo="+repo, "--mode=archive")
	s, err := server.Open(t.Context(), server.Options{Repo: repo, State: filepath.Join(state, "state"), Settings: config.Default, Log: ts.Logger(t)})
	must.OK(t, err)
	session, err := s.Journal.Create(journal.Session{Token: "ci"}, 1<<40)
	must.OK(t, err)
	l, err := server.Listen("127.0.0.1:0", config.TLS{})
	must.OK(t, err)
	ended := make(chan error, 1)
	go func() { ended <- s.Run(context.WithoutCancel(t.Context()), l) }()
	must.OK(t, os.Truncate(filepath.Join(state, "state", "journal.db"), int64(os.Getpagesize())))
	if _, err := s.Journal.Session(session.ID); !errors.Is(err, journal.ErrStopped) {
		t.Errorf("reading: %v", err)
	}
	if err := <-ended; !errors.Is(err, journal.ErrStopped) {
		t.Errorf("the server ended with %v", err)
	}
	if err := s.Close(false); !errors.Is(err, journal.ErrStopped) {
		t.Errorf("closed with %v", err)
	}
}

// SIGHUP reads the configuration again and does not end the server.
func TestHangup(t *testing.T) {
	repo := filepath.Join(t.TempDir(), "prod")
	reloaded := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- server.Serve(ctx, server.Options{
			Repo: repo, State: filepath.Join(repo, ".ostree-upload"), Init: true, Address: "127.0.0.1:0",
			Settings: config.Default, Reload: func() { reloaded <- struct{}{} }, Log: ts.Logger(t),
		})
	}()
	for { // until it serves: before, the signal would end this process
		if _, err := os.Stat(filepath.Join(repo, ".ostree-upload", "journal.db")); err == nil {
			break
		}
	}
	for range 2 {
		must.OK(t, syscall.Kill(os.Getpid(), syscall.SIGHUP))
		<-reloaded
	}
	cancel()
	must.OK(t, <-ended)
}
