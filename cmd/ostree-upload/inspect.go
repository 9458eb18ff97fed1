// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sync/errgroup"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/durable"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/journal"
	"github.com/lirios/ostree-upload/publish"
	"github.com/lirios/ostree-upload/tusstore"
)

func (c *CheckCmd) check(ctx context.Context, app *App) error {
	settings, file, err := c.settings(app)
	if err != nil {
		return err
	}
	if _, err := ostree.OpenRepo(settings.Repo); err != nil {
		return wire.Errorf(wire.NotFound, "%v", err).WithHint("name the repository with --repo")
	}
	configuration := c.Config
	if file == nil {
		configuration = ""
	}
	if err := becomeOwner(settings.Repo, configuration, app.Log); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(settings.StateFolder(), "journal.db")); errors.Is(err, fs.ErrNotExist) {
		fmt.Fprintf(app.Stdout, "there is no journal in %s: nothing was ever received here\n", settings.StateFolder())
		return nil
	}
	if c.Repair {
		if err := repair(ctx, settings, file, app); err != nil {
			return err
		}
	}
	findings, notes, err := inspect(ctx, settings)
	if err != nil {
		return err
	}
	for _, n := range notes {
		fmt.Fprintf(app.Stdout, "note: %s\n", n)
	}
	for _, f := range findings {
		fmt.Fprintf(app.Stdout, "finding: %s\n", f)
	}
	if len(findings) > 0 {
		return foundError(len(findings))
	}
	fmt.Fprintln(app.Stdout, "journal, state folder and repository agree")
	return nil
}

// settings reads the configuration; without a file the defaults do.
func (c *CheckCmd) settings(app *App) (*config.Config, *config.File, error) {
	settings := config.Default()
	file, err := config.OpenFile(c.Config, app.Log)
	if err == nil {
		settings = file.Current()
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	s := *settings
	if c.Repo != "" {
		s.Repo = c.Repo
	}
	if c.State != "" {
		s.State = c.State
	}
	return &s, file, nil
}

// foundError is how many things are wrong.
type foundError int

func (n foundError) Error() string { return fmt.Sprintf("%d findings", int(n)) }

// Hint says what to do about them.
func (foundError) Hint() string {
	return "ostree-upload check --repair repairs what is safe to repair; for a damaged repository see ostree fsck"
}

// inspect looks at everything and changes nothing: a journal that was not
// closed cleanly stays so.
func inspect(ctx context.Context, s *config.Config) (findings, notes []string, err error) {
	lock, err := lockRepo(s.Repo)
	if err != nil {
		return nil, nil, err
	}
	defer lock.Close() //nolint:errcheck // nothing was written
	database := filepath.Join(s.StateFolder(), "journal.db")
	j, err := journal.OpenFile(database)
	if err != nil {
		return nil, nil, err
	}
	if !j.WasClean() {
		defer j.Abandon() //nolint:errcheck // nothing was written
	}
	defer func() {
		if j.WasClean() {
			err = errors.Join(err, j.Close())
		}
	}()
	if err := j.Check(); err != nil {
		findings = append(findings, err.Error())
	}
	left, err := durable.Temporary(database)
	if err != nil {
		return nil, nil, err
	}
	for _, path := range left {
		notes = append(notes, "temporary file "+path+" is left behind; the next start sees to it")
	}
	f, n, err := tusstore.Inspect(ctx, tusstore.Config{
		Dir: s.StateFolder(), Repo: s.Repo, Journal: j, Workers: runtime.GOMAXPROCS(0), MaxObjectSize: int64(s.Limits.MaxObjectSize),
	})
	findings, notes = append(findings, f...), append(notes, n...)
	if err != nil {
		return nil, nil, err
	}
	f, n, err = publish.Inspect(ctx, publish.Config{Repo: s.Repo, Journal: j})
	return append(findings, f...), append(notes, n...), err
}

// repair does what a start of the server does, verifying every staged object,
// and deletes what no session needs.
func repair(ctx context.Context, s *config.Config, file *config.File, app *App) error {
	repo, err := ostree.OpenRepo(s.Repo)
	if err != nil {
		return err
	}
	if file == nil {
		return wire.Errorf(wire.NotFound, "--repair needs the configuration file").WithHint("name it with --config")
	}
	a, err := assemble(ctx, s, file, repo, app.Log, true)
	if err != nil {
		return err
	}
	g, working := errgroup.WithContext(ctx) // one that fails ends the other
	ingest, stop := context.WithCancel(working)
	g.Go(func() error { return a.store.Run(ingest) })
	g.Go(func() error {
		defer stop()
		return a.publisher.Finish(working)
	})
	if err = g.Wait(); err == nil {
		_, err = a.store.Clean(ctx)
	}
	return errors.Join(err, a.close(err == nil))
}
