// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/durable"
	"github.com/lirios/ostree-upload/internal/fault"
	"github.com/lirios/ostree-upload/internal/libostree"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/receive"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/journal"
	"github.com/lirios/ostree-upload/publish"
	"github.com/lirios/ostree-upload/tusstore"
)

// serve assembles the server and runs it.
func (c *ReceiveCmd) serve(ctx context.Context, app *App) error {
	file, err := config.OpenFile(c.Config, app.Log)
	if err != nil {
		return err
	}
	settings := *file.Current()
	if err := c.override(&settings); err != nil {
		return err
	}
	if len(settings.Tokens) == 0 {
		app.Log.Warn("the configuration holds no token, so nobody can push", "hint", "ostree-upload gentoken --config "+c.Config)
	}
	// What must be secret has its own mode; a web server reads the rest.
	unix.Umask(0o022)
	// A port below 1024 and a private key need root's privileges.
	listener, err := listen(&settings)
	if err != nil {
		return err
	}
	defer listener.Close() //nolint:errcheck // Serve closes it; here only if it was never reached
	if err := becomeOwner(settings.Repo, c.Config, app.Log); err != nil {
		return err
	}
	if c.Init {
		if err := initRepo(settings.Repo); err != nil {
			return fmt.Errorf("--init: %w", err)
		}
	}
	repo, err := ostree.OpenRepo(settings.Repo)
	if errors.Is(err, ostree.ErrNoRepo) {
		return wire.Errorf(wire.NotFound, "%v", err).WithHint("name a repository with --repo, or create one with --init where nothing is")
	}
	if err != nil {
		return err
	}
	a, err := assemble(ctx, &settings, file, repo, app.Log, false)
	if err != nil {
		return err
	}
	app.Log.Info("receiving", "address", listener.Addr().String(), "repo", settings.Repo, "mode", repo.Mode(), "version", versionOf())
	err = a.run(ctx, listener, &settings, file, app.Log)
	return errors.Join(err, a.close(err == nil))
}

// listen opens the port, for HTTPS if there is a certificate.
func listen(s *config.Config) (net.Listener, error) {
	l, err := net.Listen("tcp", s.Address)
	if errors.Is(err, unix.EADDRINUSE) {
		return nil, wire.Errorf(wire.Internal, "listen on %s: %v", s.Address, unix.EADDRINUSE).
			WithHint("stop what listens there, or name another address with --address")
	}
	if err != nil || s.TLS.Cert == "" {
		return l, err
	}
	cert, err := tls.LoadX509KeyPair(s.TLS.Cert, s.TLS.Key)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("the certificate: %w", err), l.Close())
	}
	return tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2", "http/1.1"}}), nil
}

func (c *ReceiveCmd) override(s *config.Config) error {
	for _, o := range []struct {
		flag string
		to   *string
	}{{c.Repo, &s.Repo}, {c.State, &s.State}, {c.Address, &s.Address}, {c.TLSCert, &s.TLS.Cert}, {c.TLSKey, &s.TLS.Key}} {
		if o.flag != "" {
			*o.to = o.flag
		}
	}
	if (s.TLS.Cert == "") != (s.TLS.Key == "") {
		return badUsage{errors.New("--tls-cert and --tls-key belong together")}
	}
	return nil
}

// initRepo creates an archive repository with a summary, unless there is one. A
// mark stands beside it until all is durable; a start that finds it begins anew,
// unless objects came meanwhile.
// Without it nobody could tell a repository that is to have no summary from one
// that has none yet, and libostree syncs nothing of what it makes here.
func initRepo(path string) error {
	mark := filepath.Join(path, ".ostree-upload.init")
	config, objects := filepath.Join(path, "config"), filepath.Join(path, "objects")
	if missing(mark) && (!missing(config) || !missing(objects)) {
		return nil
	}
	// Who starts without --init after the crash uses what is there.
	used, err := fs.Glob(os.DirFS(objects), "*/*")
	if err != nil {
		return err
	}
	if len(used) > 0 {
		return durable.Remove(mark)
	}
	if err := errors.Join(os.MkdirAll(path, 0o755), durable.RemoveTemporary(mark)); err != nil {
		return err
	}
	if err := durable.Create(mark, func(string) error { return nil }); err != nil {
		return err
	}
	// libostree keeps what is there, even if a power cut has damaged it.
	for _, part := range []string{objects, config} {
		if err := os.Remove(part); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := fault.Point("create the repository", func() error { return libostree.Init(path, "archive") }); err != nil {
		return err
	}
	if err := fault.Point("write the first summary", func() error { return firstSummary(path) }); err != nil {
		return err
	}
	if err := durable.SyncFS(path); err != nil {
		return err
	}
	return durable.Remove(mark)
}

func missing(path string) bool {
	_, err := os.Stat(path)
	return errors.Is(err, fs.ErrNotExist)
}

func firstSummary(path string) error {
	repo, err := libostree.Open(path)
	if err != nil {
		return err
	}
	defer repo.Close()
	return repo.RegenerateSummary()
}

// assembly is the server's parts, in the order in which bytes flow.
type assembly struct {
	lock      *os.File
	journal   *journal.Journal
	store     *tusstore.Store
	publisher *publish.Publisher
	server    *receive.Server
}

func assemble(ctx context.Context, s *config.Config, file *config.File, repo *ostree.Repo, log *slog.Logger, verify bool) (a *assembly, err error) {
	a = &assembly{}
	parts := a // `return nil, err` sets a before the deferred call
	defer func() {
		if err != nil {
			// If the last stop was unclean, what is staged may not be verified yet;
			// after a failed sync it may be lost.
			clean := parts.journal != nil && parts.journal.WasClean() && !errors.Is(err, durable.ErrNotSynced)
			err = errors.Join(err, parts.close(clean))
		}
	}()
	if a.lock, err = lockRepo(s.Repo); err != nil {
		return nil, err
	}
	state := s.StateFolder()
	if err = openState(state, s.Repo, log); err != nil {
		return nil, err
	}
	database := filepath.Join(state, "journal.db")
	if err = durable.RemoveTemporary(database); err != nil {
		return nil, err
	}
	if a.journal, err = journal.OpenFile(database); err != nil {
		return nil, err
	}
	a.store, err = tusstore.Open(ctx, tusstore.Config{
		Dir: state, Repo: s.Repo, Journal: a.journal, Log: log, Verify: verify,
		Workers: runtime.GOMAXPROCS(0), MaxObjectSize: int64(s.Limits.MaxObjectSize), MaxInflated: int64(s.Limits.MaxSessionSize),
	})
	if err != nil {
		return nil, err
	}
	warnOfSummary(s, log)
	a.publisher = publish.New(publish.Config{
		Repo: s.Repo, Staged: a.store.StagedPath(), Journal: a.journal, Log: log,
		Summary: publish.Summary(s.Summary), Ready: a.store.Wait, Drop: a.store.Drop, Hold: a.store.Hold,
	})
	if err = a.publisher.Recover(); err != nil {
		return nil, err
	}
	a.server, err = receive.New(receive.Config{
		Version: versionOf(), Repo: repo, Settings: file.Current,
		Journal: a.journal, Store: a.store, Publisher: a.publisher, Log: log,
	})
	return a, err
}

// run serves until ctx ends, then stops in the order in which bytes flow.
func (a *assembly) run(ctx context.Context, l net.Listener, s *config.Config, file *config.File, log *slog.Logger) error {
	g, ctx := errgroup.WithContext(ctx)
	ingest, stopIngest := context.WithCancel(context.WithoutCancel(ctx))
	publishing, stopPublishing := context.WithCancel(context.WithoutCancel(ctx))
	g.Go(func() error {
		defer stopIngest()
		return a.server.Serve(ctx, l, time.Duration(s.Grace))
	})
	g.Go(func() error {
		defer stopPublishing()
		return a.store.Run(ingest)
	})
	g.Go(func() error { return a.publisher.Run(publishing) })
	g.Go(func() error {
		select {
		case <-a.journal.Failed():
			return a.journal.Err() // nothing more can be recorded
		case <-ctx.Done():
			return nil
		}
	})
	g.Go(func() error {
		a.janitor(ctx, file.Current, log)
		return nil
	})
	return g.Wait()
}

// close closes the parts. A clean stop vouches for what is staged, so that is
// made durable before; an unclean one leaves the next start to verify it.
func (a *assembly) close(clean bool) error {
	var errs []error
	if a.store != nil {
		if clean {
			err := durable.SyncFS(a.store.StagedPath())
			clean = err == nil
			errs = append(errs, err)
		}
		errs = append(errs, a.store.Close())
	}
	if a.journal != nil && !clean {
		errs = append(errs, a.journal.Abandon())
	}
	if a.journal != nil {
		errs = append(errs, a.journal.Close())
	}
	if a.lock != nil {
		errs = append(errs, a.lock.Close())
	}
	return errors.Join(errs...)
}

// lockRepo makes this the one server of a repository, wherever its state is.
func lockRepo(repo string) (*os.File, error) {
	f, err := durable.Lock(filepath.Join(repo, ".ostree-upload.lock"))
	if errors.Is(err, durable.ErrLocked) {
		return nil, wire.Errorf(wire.Exists, "another ostree-upload serves %s: %v", repo, err).
			WithHint("one server serves a repository; stop the other one first")
	}
	return f, err
}

func warnOfSummary(s *config.Config, log *slog.Logger) {
	write, why, err := publish.SummaryOf(s.Repo, publish.Summary(s.Summary))
	if !write && (why != "" || err != nil) {
		log.Warn("the repository's summary is left as it is; clients that read it will not see new commits", "reason", why, "err", err)
	}
}
