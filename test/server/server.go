// SPDX-License-Identifier: AGPL-3.0-or-later

// Package server runs the whole server within a test: a real repository, a
// real journal and staging, real HTTP. Only tests import it.
package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/lirios/ostree-upload/internal/bucket"
	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/libostree"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/server"
	"github.com/lirios/ostree-upload/internal/token"
	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/store"
)

// Server is a running server.
type Server struct {
	*server.Server
	t        testing.TB
	Repo     string // the production repository
	State    string
	URL      string
	Token    string // of scope push, all refs
	Admin    string // of every scope
	Other    string // of scope push, refs other/**
	settings atomic.Pointer[config.Config]
	bucket   *bucket.Config // nil: the repository is on the disk
	stop     func()
}

// Start makes a repository of a mode, or InBucket, and serves it until the test ends, when
// the repository must pass ostree fsck and the journal its own check.
func Start(t testing.TB, mode string) *Server {
	t.Helper()
	if mode == InBucket {
		store.SetCredentials(t.(*testing.T))
		return StartAt(t, store.Fake(t, store.FakeOptions{}), store.FakeBucket)
	}
	repo := filepath.Join(t.TempDir(), "prod")
	must.OK(t, os.Mkdir(repo, 0o755))
	must.OK(t, libostree.Init(repo, mode))
	return start(t, &Server{t: t, Repo: repo, State: filepath.Join(repo, ".ostree-upload")})
}

func start(t testing.TB, s *Server) *Server {
	t.Helper()
	s.settings.Store(config.Default())
	s.Token = s.AddToken(token.Options{Name: "ci"})
	s.Admin = s.AddToken(token.Options{Name: "boss", Scopes: []string{token.Admin}})
	s.Other = s.AddToken(token.Options{Name: "other", Refs: []string{"other/**"}})
	s.Run()
	t.Cleanup(func() {
		if err := s.Journal.Check(); err != nil {
			t.Errorf("the journal is not consistent: %v", err)
		}
		s.Stop()
		s.Fsck()
	})
	return s
}

// Run starts the server over the state folder, after Stop.
func (s *Server) Run() {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var err error
	s.Server, err = server.Open(ctx, s.Options())
	must.OK(s.t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must.OK(s.t, err)
	s.URL = "http://" + l.Addr().String()
	ended := make(chan error, 1)
	running := s.Server
	go func() { ended <- running.Run(ctx, l) }()
	s.stop = func() {
		cancel()
		err := <-ended
		must.OK(s.t, errors.Join(err, running.Close(err == nil)))
	}
}

// Options are those that the server runs with, also for what looks at it while it is stopped.
func (s *Server) Options() server.Options {
	return server.Options{
		Repo: s.Repo, State: s.State, Bucket: s.bucket, Version: "test",
		Settings: s.settings.Load,
		Log:      Logger(s.t),
	}
}

// Logger logs to a test's output.
func Logger(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
}

// Stop ends the server.
func (s *Server) Stop() {
	s.t.Helper()
	s.stop()
}

// Change gives the server a changed configuration, as an edit of its file does.
func (s *Server) Change(change func(*config.Config)) {
	c := *s.settings.Load()
	c.Tokens, c.OIDC = slices.Clone(c.Tokens), slices.Clone(c.OIDC)
	change(&c)
	s.settings.Store(&c)
}

// AddToken gives the server another token, and returns its plaintext.
func (s *Server) AddToken(o token.Options) string {
	plain, t := token.Generate(o)
	s.Change(func(c *config.Config) { c.Tokens = append(c.Tokens, t) })
	return plain
}

// Expire has the time of a token be over, and Revoke takes it away.
func (s *Server) Expire(name string) {
	s.Change(func(c *config.Config) {
		for i := range c.Tokens {
			if c.Tokens[i].Name == name {
				c.Tokens[i].Expires = c.Tokens[i].Created
			}
		}
	})
}

func (s *Server) Revoke(name string) {
	s.Change(func(c *config.Config) {
		c.Tokens = slices.DeleteFunc(c.Tokens, func(t token.Token) bool { return t.Name == name })
	})
}

// Fsck lets ostree check the repository.
func (s *Server) Fsck() {
	s.t.Helper()
	repo := s.Repo
	if s.bucket != nil {
		repo = s.Download()
	}
	must.Run(s.t, "ostree", "fsck", "--repo="+repo)
}

// Ref is the commit that a ref of the repository names, "" for none.
func (s *Server) Ref(name string) string {
	s.t.Helper()
	if s.bucket != nil {
		return s.bucketRef(name)
	}
	b, err := os.ReadFile(filepath.Join(s.Repo, "refs/heads", name))
	if os.IsNotExist(err) {
		return ""
	}
	must.OK(s.t, err)
	return strings.TrimSpace(string(b))
}

// Commit commits a tree of small files, in which each call for another salt
// changes a few, to a branch of an archive repository that it makes if needed.
func Commit(t testing.TB, repo, branch, salt string, files int) ostree.Checksum {
	t.Helper()
	if _, err := os.Stat(repo); err != nil {
		must.Run(t, "ostree", "init", "--repo="+repo, "--mode=archive")
	}
	tree := t.TempDir()
	for i := range files {
		dir := filepath.Join(tree, fmt.Sprint("dir", i%7))
		must.OK(t, os.MkdirAll(dir, 0o755))
		text := fmt.Sprintln("file", i)
		if i < 3 {
			text += salt
		}
		must.OK(t, os.WriteFile(filepath.Join(dir, fmt.Sprint("file", i)), []byte(text), 0o644))
	}
	must.OK(t, os.Symlink("dir0/file0", filepath.Join(tree, "link")))
	c, err := ostree.ParseChecksum(must.Run(t, "ostree", "commit", "--repo="+repo, "-b", branch, "-s", salt,
		"--no-bindings", "--owner-uid=0", "--owner-gid=0", "--no-xattrs", tree))
	must.OK(t, err)
	return c
}

// Object reads an object file of an archive repository.
func Object(t testing.TB, repo string, n ostree.Name) []byte {
	t.Helper()
	r, err := ostree.OpenRepo(repo)
	must.OK(t, err)
	o, err := r.Object(t.Context(), n)
	must.OK(t, err)
	f, err := o.Open()
	must.OK(t, err)
	defer f.Close()
	b, err := io.ReadAll(f)
	must.OK(t, err)
	return b
}

// Sum is the checksum of a commit.
func Sum(t testing.TB, commit string) ostree.Checksum {
	t.Helper()
	c, err := ostree.ParseChecksum(commit)
	must.OK(t, err)
	return c
}
