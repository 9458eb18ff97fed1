// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/hint"
	"github.com/lirios/ostree-upload/internal/server"
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
	if err := oneOnly(&settings, c.Repo, c.State); err != nil {
		return err
	}
	settings.Repo, settings.State = cmp.Or(c.Repo, settings.Repo), cmp.Or(c.State, settings.State)
	if err := placed(&settings); err != nil {
		return err
	}
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
	opt := options(app, settings.Repository, &settings, file.Current)
	opt.Init, opt.WaitLock = c.Init, time.Duration(c.WaitLock)
	opt.Configuration, opt.Reload = c.Config, file.Reload
	return server.Serve(ctx, opt)
}

// options takes from the settings what holds until a restart; now gives the rest.
func options(app *App, r config.Repository, s *config.Config, now func() *config.Config) server.Options {
	opt := server.Options{
		Address: s.Address, TLS: s.TLS, MetricsAddress: s.MetricsAddress, PageAddress: s.PageAddress,
		Settings: now, Version: versionOf(), Log: app.Log,
	}
	opt.At(&r)
	for _, other := range s.Served() {
		opt.Beside = append(opt.Beside, server.FolderOf(&other))
	}
	return opt
}

// options are those of the repositories that the flags name, one by one. Without a
// configuration file the defaults hold.
func (f *repositoryFlags) options(app *App) (list []server.Options, err error) {
	now, configuration := config.Default, ""
	file, err := config.OpenFile(f.Config, app.Log)
	switch {
	case err == nil:
		now, configuration = file.Current, f.Config
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	settings := *now()
	if err := oneOnly(&settings, f.Repo, f.State); err != nil {
		return nil, err
	}
	if f.Repository != "" {
		if err := settings.CheckRepository(f.Repository); err != nil {
			return nil, usage("--repository: %w", err)
		}
	}
	settings.Repo, settings.State = cmp.Or(f.Repo, settings.Repo), cmp.Or(f.State, settings.State)
	if err := placed(&settings); err != nil {
		return nil, err
	}
	for _, r := range settings.Served() {
		if f.Repository == "" || r.Name == f.Repository {
			opt := options(app, r, &settings, config.NewView(now, r).Current)
			opt.Configuration = configuration
			list = append(list, opt)
		}
	}
	return list, nil
}

// named adds the name of a repository to an error, if it has one.
func named(repository string, err error) error {
	if err == nil || repository == "" {
		return err
	}
	return fmt.Errorf("repository %s: %w", repository, err)
}
