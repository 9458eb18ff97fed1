// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/fsck"
	"github.com/lirios/ostree-upload/internal/hint"
	"github.com/lirios/ostree-upload/internal/page"
	"github.com/lirios/ostree-upload/internal/server"
	"github.com/lirios/ostree-upload/internal/units"
	"github.com/lirios/ostree-upload/internal/wire"
)

// serverCommands are those that need libostree.
type serverCommands struct {
	Receive ReceiveCmd `cmd:"" help:"Serve a repository: receive pushes and publish them."`
	Check   CheckCmd   `cmd:"" help:"Compare the state folder, the journal and the repository."`
	Prune   PruneCmd   `cmd:"" help:"Remove the commits that the configuration does not keep."`
	Health  HealthCmd  `cmd:"" help:"Ask the server of this machine whether it is healthy."`

	MakeDelta MakeDeltaCmd `cmd:"" hidden:"" help:"Make a static delta, for the server."`
}

// stoppedFlags name what can be read where no server runs.
type stoppedFlags struct {
	State string `placeholder:"DIR" help:"Read the sessions from this state folder, with the server stopped, instead of asking a server; nothing is changed."`
}

// look opens that folder.
func (f *stoppedFlags) look() (sessionSource, error) { return server.OpenLook(f.State) }

// serve logs as the configuration says. A log of JSON has the error in it, too.
func (c *ReceiveCmd) serve(ctx context.Context, app *App) error {
	settings, err := config.Load(c.Config)
	if err != nil {
		return err
	}
	app.Log = server.NewLog(app.Stderr, settings.LogFormat, app.Level)
	err = c.run(ctx, app)
	if err == nil || settings.LogFormat != config.LogJSON {
		return err
	}
	app.Log.Error("ended", "err", err, "hint", hint.Of(err))
	return logged{exitCode(err)}
}

// logged is an error that the log has, and so needs no words.
type logged struct{ exit int }

func (logged) Error() string   { return "" }
func (l logged) ExitCode() int { return l.exit }

func (c *ReceiveCmd) run(ctx context.Context, app *App) error {
	file, err := config.OpenFile(c.Config, app.Log, server.CheckSettings)
	if err != nil {
		return err
	}
	settings := *file.Current()
	settings.Repo, settings.State = cmp.Or(c.Repo, settings.Repo), cmp.Or(c.State, settings.State)
	settings.Address = cmp.Or(c.Address, settings.Address)
	settings.TLS.Cert, settings.TLS.Key = cmp.Or(c.TLSCert, settings.TLS.Cert), cmp.Or(c.TLSKey, settings.TLS.Key)
	settings.TLS.ClientCA = cmp.Or(c.TLSClientCA, settings.TLS.ClientCA)
	if err := config.CheckAddress(settings.Address); err != nil {
		return usage("--address: %w", err)
	}
	if (settings.TLS.Cert == "") != (settings.TLS.Key == "") {
		return badUsage{errors.New("--tls-cert and --tls-key belong together")}
	}
	if settings.TLS.ClientCA != "" && settings.TLS.Cert == "" {
		return badUsage{errors.New("--tls-client-ca needs --tls-cert and --tls-key")}
	}
	if len(settings.Tokens)+len(settings.OIDC) == 0 {
		app.Log.Warn("the configuration holds no token, so nobody can push", "hint", "ostree-upload gentoken --config "+c.Config)
	}
	opt := options(app, &settings, file.Current)
	opt.Init, opt.WaitLock = c.Init, time.Duration(c.WaitLock)
	opt.Configuration, opt.Reload = c.Config, file.Reload
	return server.Serve(ctx, opt)
}

// options takes from the settings what holds until a restart; now gives the rest.
func options(app *App, s *config.Config, now func() *config.Config) server.Options {
	return server.Options{
		Repo: s.Repo, State: s.StateFolder(), Address: s.Address, TLS: s.TLS, MetricsAddress: s.MetricsAddress,
		Settings: now, Version: versionOf(), Log: app.Log,
	}
}

// options are those of the repository that the flags name. Without a configuration file
// the defaults hold.
func (f *repositoryFlags) options(app *App) (server.Options, *config.Config, error) {
	now, configuration := config.Default, ""
	file, err := config.OpenFile(f.Config, app.Log)
	switch {
	case err == nil:
		now, configuration = file.Current, f.Config
	case !errors.Is(err, fs.ErrNotExist):
		return server.Options{}, nil, err
	}
	settings := *now()
	settings.Repo, settings.State = cmp.Or(f.Repo, settings.Repo), cmp.Or(f.State, settings.State)
	opt := options(app, &settings, now)
	opt.Configuration = configuration
	return opt, &settings, nil
}

// check compares everything and prints what is wrong.
func (c *CheckCmd) check(ctx context.Context, app *App) error {
	if c.Content && c.Repair {
		return usage("--content finds what push --repair mends: leave out --repair")
	}
	opt, settings, err := c.options(app)
	if err != nil {
		return err
	}
	if c.Content {
		return c.checkContent(ctx, app, opt)
	}
	if c.Repair && opt.Configuration == "" {
		return hint.Add(errors.New("--repair needs the configuration file"), "name it with --config")
	}
	report, err := server.Check(ctx, opt, c.Repair)
	if err != nil {
		return err
	}
	return c.print(app, settings, report)
}

// prune prunes and prints what was removed, also if that ends with an error.
func (c *PruneCmd) prune(ctx context.Context, app *App) error {
	opt, _, err := c.options(app)
	if err != nil {
		return err
	}
	if opt.Configuration == "" && !c.DryRun {
		return hint.Add(errors.New("there is no configuration file at "+c.Config+", which says what is kept"), "name it with --config")
	}
	report, err := server.Prune(ctx, opt, c.DryRun)
	if report != nil && (err == nil || report.Commits+report.Objects > 0) {
		err = errors.Join(err, c.print(app, report))
	}
	if err != nil {
		return interruptedOr(ctx, err)
	}
	return nil
}

func (c *PruneCmd) print(app *App, p *wire.Pruned) (err error) {
	text := page.Pruned(p)
	if c.JSON {
		p.Refs = append([]wire.PrunedRef{}, p.Refs...)
		if text, err = page.JSON(p); err != nil {
			return err
		}
	}
	_, err = io.WriteString(app.Stdout, text)
	return err
}

func (c *CheckCmd) print(app *App, s *config.Config, r *server.Report) error {
	sound := "journal, state folder and repository agree"
	if !r.Used {
		sound = fmt.Sprintf("there is no journal in %s: nothing was ever received here", s.StateFolder())
	}
	if err := c.printReport(app, r, sound); err != nil {
		return err
	}
	return c.found(r)
}

// printReport prints what was found or, if that is nothing, that all is sound.
func (c *CheckCmd) printReport(app *App, r *server.Report, sound string) error {
	if c.JSON {
		text, err := page.JSON(map[string]any{"used": r.Used, "findings": append([]string{}, r.Findings...), "notes": append([]string{}, r.Notes...)})
		if err == nil {
			_, err = io.WriteString(app.Stdout, text)
		}
		return err
	}
	for _, n := range r.Notes {
		fmt.Fprintf(app.Stdout, "note: %s\n", n)
	}
	for _, f := range r.Findings {
		fmt.Fprintf(app.Stdout, "finding: %s\n", f)
	}
	if len(r.Findings) == 0 {
		fmt.Fprintln(app.Stdout, sound)
	}
	return nil
}

// checkContent reads all objects of the repository and prints what is wrong.
func (c *CheckCmd) checkContent(ctx context.Context, app *App, opt server.Options) error {
	var seen *fsck.Progress
	stop := func() {}
	report, err := server.CheckContent(ctx, opt, func(p *fsck.Progress) {
		seen = p
		stop = lines(app.Stderr, func() string { return verified(p) }, plainEvery)
	})
	stop()
	if err != nil {
		return err
	}
	if err := c.printReport(app, report, verified(seen)+": all are what their names say"); err != nil {
		return err
	}
	if n := len(report.Findings); n > 0 {
		return hint.Add(fmt.Errorf("%d findings", n),
			"ostree-upload push --repair REF, from a build repository that has the commits whole, mends what belongs to a ref")
	}
	return nil
}

// verified says how far the check of all objects is.
func verified(p *fsck.Progress) string {
	return fmt.Sprintf("verified %s of %s objects, %s",
		units.Thousands(p.Objects.Load()), units.Thousands(p.Total.Load()), units.Amount(p.Bytes.Load()))
}

// found is an error if there are findings.
func (c *CheckCmd) found(r *server.Report) error {
	if n := len(r.Findings); n > 0 {
		return hint.Add(fmt.Errorf("%d findings", n),
			"ostree-upload check --repair repairs what is safe to repair; for a damaged repository see ostree fsck")
	}
	return nil
}
