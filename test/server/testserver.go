// SPDX-License-Identifier: AGPL-3.0-or-later

// Package server runs the whole server within a test: a real repository, a
// real journal and staging, real HTTP. Only tests import it.
package server

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/libostree"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/receive"
	"github.com/lirios/ostree-upload/internal/token"
	"github.com/lirios/ostree-upload/journal"
	"github.com/lirios/ostree-upload/publish"
	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/tusstore"
)

// Server is a running server.
type Server struct {
	t         testing.TB
	Repo      string // the production repository
	State     string
	URL       string
	Token     string // of scope push, all refs
	Admin     string // of every scope
	Other     string // of scope push, refs other/**
	Settings  *config.Config
	Journal   *journal.Journal
	Store     *tusstore.Store
	Publisher *publish.Publisher
	stop      func()
}

// Start makes a repository of a mode and serves it until the test ends, when
// the repository must pass ostree fsck and the journal its own check.
func Start(t testing.TB, mode string) *Server {
	t.Helper()
	repo := filepath.Join(t.TempDir(), "prod")
	must.OK(t, os.Mkdir(repo, 0o755))
	must.OK(t, libostree.Init(repo, mode))
	s := &Server{t: t, Repo: repo, State: filepath.Join(repo, ".ostree-upload")}
	must.OK(t, os.Mkdir(s.State, 0o700))
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

// Run starts the server's parts over the state folder, after Stop.
func (s *Server) Run() {
	s.t.Helper()
	log := slog.New(slog.NewTextHandler(s.t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
	j, err := journal.OpenFile(filepath.Join(s.State, "journal.db"))
	must.OK(s.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	store, err := tusstore.Open(ctx, tusstore.Config{Dir: s.State, Repo: s.Repo, Journal: j, Workers: 2, MaxObjectSize: 8 << 30, Log: log})
	must.OK(s.t, err)
	p := publish.New(publish.Config{
		Repo: s.Repo, Staged: store.StagedPath(), Journal: j, Log: log,
		Summary: publish.Auto, Ready: store.Wait, Drop: store.Drop, Hold: store.Hold,
	})
	must.OK(s.t, p.Recover())
	repo, err := ostree.OpenRepo(s.Repo)
	must.OK(s.t, err)
	s.Settings = s.tokens()
	settings := s.Settings
	srv, err := receive.New(receive.Config{
		Version: "test", Repo: repo, Settings: func() *config.Config { return settings },
		Journal: j, Store: store, Publisher: p, Log: log,
	})
	must.OK(s.t, err)
	h := httptest.NewServer(srv.Handler())
	var g errgroup.Group
	g.Go(func() error { return store.Run(ctx) })
	g.Go(func() error { return p.Run(ctx) })
	s.URL, s.Journal, s.Store, s.Publisher = h.URL, j, store, p
	s.stop = func() {
		h.CloseClientConnections()
		h.Close()
		cancel()
		must.OK(s.t, g.Wait())
		must.OK(s.t, store.Close())
		must.OK(s.t, j.Close())
	}
}

// Stop ends the server's parts.
func (s *Server) Stop() {
	s.t.Helper()
	s.stop()
}

func (s *Server) tokens() *config.Config {
	c := config.Default()
	add := func(o token.Options) string {
		plain, t := token.Generate(o)
		c.Tokens = append(c.Tokens, t)
		return plain
	}
	s.Token = add(token.Options{Name: "ci"})
	s.Admin = add(token.Options{Name: "boss", Scopes: []string{token.Admin}})
	s.Other = add(token.Options{Name: "other", Refs: []string{"other/**"}})
	return c
}

// Fsck lets ostree check the repository.
func (s *Server) Fsck() {
	s.t.Helper()
	must.Run(s.t, "ostree", "fsck", "--repo="+s.Repo)
}

// Ref is the commit that a ref of the repository names, "" for none.
func (s *Server) Ref(name string) string {
	s.t.Helper()
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

// Clean does a round of the server's janitor.
func (s *Server) Clean(ctx context.Context, settings *config.Config, log *slog.Logger) error {
	now := time.Now()
	if err := s.Publisher.Expire(now, s.Store.Active); err != nil {
		return err
	}
	forgotten, err := s.Journal.Trim(now.Add(-time.Duration(settings.History)))
	if err != nil {
		return err
	}
	deleted, err := s.Store.Clean(ctx)
	if deleted > 0 || forgotten > 0 {
		log.Info("cleaned", "objects", deleted, "sessions", forgotten)
	}
	return err
}
