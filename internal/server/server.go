// SPDX-License-Identifier: AGPL-3.0-or-later

// Package server is one repository served: it joins the journal, the staging, the
// publisher and the HTTP side over one state folder.
//
//   - One process serves a repository, wherever its state is: it holds the lock
//     beside it.
//   - It runs as the owner of the repository.
//   - It stops in the order in which bytes flow, and only a stop without an error
//     vouches for what is staged.
//   - What keeps its value until a restart stands in Options; all else is read
//     from Settings where it is used.
package server

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/lirios/ostree-upload/internal/token"

	"golang.org/x/sync/errgroup"

	"github.com/lirios/ostree-upload/internal/bucket"
	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/console"
	"github.com/lirios/ostree-upload/internal/durable"
	"github.com/lirios/ostree-upload/internal/hint"
	"github.com/lirios/ostree-upload/internal/lastuse"
	"github.com/lirios/ostree-upload/internal/metrics"
	"github.com/lirios/ostree-upload/internal/mirror"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/prune"
	"github.com/lirios/ostree-upload/internal/receive"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/journal"
	"github.com/lirios/ostree-upload/publish"
	"github.com/lirios/ostree-upload/tusstore"
)

// Options say what is served, and how.
type Options struct {
	Name    string   // of the repository, "" if it is the only one
	Repo    string   // the production repository, or the mirror of one in a bucket
	State   string   // the state folder
	Beside  []string // paths of all repositories of the process, this one among them
	Address string   // host:port to listen on
	TLS     config.TLS
	// MetricsAddress is host:port of the metrics; "": they are at Address, for tokens
	// that may read them.
	MetricsAddress string
	PageAddress    string // host:port of the operator's page; "": it is at Address, if there is one
	// Bucket is where the repository is whose mirror is at Repo; nil: it is on the disk.
	Bucket *bucket.Config
	Init   bool // make the repository if there is none
	Verify bool // what is staged, even after a clean stop
	// WaitLock is how long to wait for the end of another server of the repository.
	WaitLock time.Duration

	// Configuration is the file that the owner of the repository has to be able to
	// read, "" for none.
	Configuration string
	// Settings is the configuration as it is now. Whoever decides something asks
	// once and keeps the answer.
	Settings func() *config.Config
	// Reload reads the configuration again on SIGHUP; nil for none.
	Reload  func()
	Version string
	Log     *slog.Logger

	lock     *os.File        // the repository's, nil if it is not taken yet
	pair     *certificate    // nil: plain HTTP
	patience time.Duration   // with a store at the start; 0: startPatience
	workers  int             // uploads that are ingested at a time; 0 for one on each core
	shared   *receive.Shared // with other repositories; nil: there are none
	pool     *tusstore.Pool  // of workers, with other repositories; nil: there are none
}

func (opt *Options) cores() int { return cmp.Or(opt.workers, runtime.GOMAXPROCS(0)) }

// Server is a repository that is served. Its parts stand in the order in which
// bytes flow.
type Server struct {
	opt  Options
	repo *ostree.Repo
	// mirror is of a repository in a bucket; nil: it is on the disk.
	mirror *mirror.Mirror
	lock   *os.File

	API       *receive.Server
	Store     *tusstore.Store
	Publisher *publish.Publisher
	Journal   *journal.Journal
	LastUse   *lastuse.Record // of tokens, by name
	telling   sync.RWMutex    // see receive.Config
	pruner    *pruner
	metrics   *metrics.Metrics
	metricsAt net.Listener // nil: at the address of all else
	traffic   *traffic
	page      *console.Console // nil if the process serves several repositories
	pageAt    net.Listener     // nil: at the address of all else
}

// Open opens the parts over the state folder, which is made if it is missing, and
// puts what the process before left in mid-air where this one goes on. The caller
// closes the Server.
func Open(ctx context.Context, opt Options) (*Server, error) {
	s := &Server{opt: opt, lock: opt.lock}
	if err := s.openRepo(ctx); err != nil {
		return nil, errors.Join(err, s.Close(false))
	}
	if err := s.open(ctx); err != nil {
		// If the stop before was unclean, what is staged may not be verified yet;
		// after a failed sync it may be lost.
		clean := s.Store != nil && s.Store.WasClean() && !errors.Is(err, durable.ErrNotSynced)
		return nil, errors.Join(err, s.Close(clean))
	}
	return s, nil
}

// openRepo opens the repository to read it.
func (s *Server) openRepo(ctx context.Context) (err error) {
	if s.opt.Bucket != nil {
		if err := prepareMirror(ctx, &s.opt); err != nil {
			return err
		}
	}
	s.repo, err = ostree.OpenRepo(s.opt.Repo)
	if errors.Is(err, ostree.ErrNoRepo) && s.opt.Name != "" {
		return hint.Add(err, "mount or make it, or put its right path under repositories in the configuration")
	}
	if errors.Is(err, ostree.ErrNoRepo) {
		return hint.Add(err, "name a repository with --repo, or create one with --init where nothing is")
	}
	if err != nil {
		return err
	}
	if _, err := s.repo.Space(); err != nil { // libostree will not open it either
		return err
	}
	if !s.repo.Locks() {
		s.opt.Log.Warn("core.locking is false in the repository: ostree prune can delete what a push under way relies on")
	}
	return nil
}

func (s *Server) open(ctx context.Context) (err error) {
	opt := s.opt
	if s.lock == nil {
		if s.lock, err = lockRepo(ctx, opt); err != nil {
			return err
		}
	}
	if err := errors.Join(makeFolders(opt), shareLock(opt.Repo)); err != nil {
		return err
	}
	if err := openState(opt); err != nil {
		return err
	}
	s.metrics = newMetrics(opt)
	if opt.Bucket != nil {
		if err := s.openMirror(ctx); err != nil {
			return err
		}
	}
	if s.Journal, err = openJournal(opt.State); err != nil {
		return err
	}
	s.Store, err = tusstore.Open(ctx, tusstore.Config{
		Dir: opt.State, Repo: s.repo, Journal: s.Journal, Log: opt.Log, Verify: opt.Verify,
		Workers: opt.cores(), Pool: opt.pool, Limits: s.limits,
		MayPush: s.mayPush,
	})
	if err != nil {
		return err
	}
	if err := s.tryRepo(); err != nil {
		return err
	}
	if err := CheckSettings(opt.Settings()); err != nil {
		return err
	}
	if s.LastUse, err = lastuse.Open(opt.State, opt.Log); err != nil {
		return err
	}
	s.traffic = newTraffic(func() int64 { return s.Store.Stats().Received })
	s.Publisher = publish.New(publish.Config{
		Repo: opt.Repo, Mirror: s.mirror, Staged: s.Store.StagedPath(), Journal: s.Journal, Log: opt.Log,
		Summary: s.summary, After: s.after, Policy: s.policy, Check: s.check, HoldTTL: s.holdTTL, Keys: s.keys,
		Token: s.token, Good: s.Store.Check, Forget: s.Store.Forget,
		Ready: s.Store.Wait, Drop: s.Store.Drop, Hold: s.Store.Hold,
		Seen: publish.Seen{LockWait: s.metrics.LockWait, Published: s.published, Work: s.metrics.WorkTried},
	})
	s.pruner = newPruner(prune.Config{Repo: opt.Repo, Mirror: s.mirror, Journal: s.Journal, Telling: &s.telling, Log: opt.Log}, s.Publisher.AskSummary)
	s.pruner.seen = s.seePruned
	if err := s.Publisher.Recover(); err != nil {
		return err
	}
	s.warnOfWorks()
	if opt.shared == nil {
		s.opt.shared = receive.NewShared(opt.cores(), opt.Settings, opt.Log)
	}
	api := receive.Config{
		Version: opt.Version, Shared: s.opt.shared, Repo: s.repo, Settings: opt.Settings,
		Journal: s.Journal, Store: s.Store, Publisher: s.Publisher, Used: s.LastUse.Use, LastUses: s.LastUse.All, Log: opt.Log,
		Count: s.metrics.Request, Telling: &s.telling, Status: s.status,
	}
	if opt.MetricsAddress == "" {
		api.Metrics = s.metrics.Handler()
	}
	if s.API, err = receive.New(api); err != nil {
		return err
	}
	if opt.Name == "" {
		s.page = newPage(s.API.Handler(), opt.Settings, opt.State, opt.Log)
	}
	s.watch()
	return nil
}

func (s *Server) limits() tusstore.Limits {
	l := s.opt.Settings().Limits
	return tusstore.Limits{
		MaxObjectSize: int64(l.MaxObjectSize), MaxMetadata: int64(l.MaxMetadataSize), MaxInflated: int64(l.MaxSessionSize),
		MinFree: int64(l.MinFreeSpace),
	}
}

func (s *Server) holdTTL() time.Duration { return time.Duration(s.opt.Settings().HoldTTL) }

// mayPush tells whether the token of a name may push a ref now.
func (s *Server) mayPush(name, ref string) bool {
	t := s.token(name)
	return t != nil && t.MayPush(ref)
}

// published is told of each outcome of a publish.
func (s *Server) published(outcome string, waited, took time.Duration) {
	s.metrics.Published(outcome, waited, took)
	if outcome == wire.Published {
		s.pruner.moved()
	}
}

// token is the token of a name, if it is valid now.
func (s *Server) token(name string) *token.Token {
	return s.opt.Settings().Named(name, time.Now())
}

// Run serves on the listeners until ctx ends, then stops in the order in which
// bytes flow. After an error the process has to end as after a crash.
func (s *Server) Run(ctx context.Context, listeners ...net.Listener) error {
	doors := doors(s.API.Handler(), listeners, s.page, s.pageAt)
	return s.run(ctx, func(ctx context.Context) error { return s.opt.shared.Serve(ctx, doors...) })
}

// run is Run where requests come by serve, which returns when all are answered.
func (s *Server) run(ctx context.Context, serve func(context.Context) error) error {
	g, ctx := errgroup.WithContext(ctx)
	ingest, stopIngest := context.WithCancel(context.WithoutCancel(ctx))
	publishing, stopPublishing := context.WithCancel(context.WithoutCancel(ctx))
	using, stopUsing := context.WithCancel(context.WithoutCancel(ctx))
	g.Go(func() error {
		defer stopIngest()
		defer stopUsing()
		return serve(ctx)
	})
	g.Go(func() error {
		defer stopPublishing()
		return s.Store.Run(ingest)
	})
	g.Go(func() error { return s.Publisher.Run(publishing) })
	g.Go(func() error { return s.LastUse.Run(using) })
	g.Go(func() error { return s.retain(ctx) })
	g.Go(func() error { return s.control(ctx) })
	g.Go(func() error {
		s.tryKeys(ctx)
		return s.Publisher.KeepSummary(ctx)
	})
	if s.metricsAt != nil {
		g.Go(func() error { return serveMetrics(ctx, s.metricsAt, s.metrics.Handler(), s.opt.Log) })
	}
	g.Go(func() error {
		select {
		case <-s.Journal.Failed():
			return s.Journal.Err() // nothing more can be recorded
		case <-ctx.Done():
			return nil
		}
	})
	g.Go(func() error {
		s.janitor(ctx)
		return nil
	})
	g.Go(func() error {
		s.traffic.run(ctx)
		return nil
	})
	return g.Wait()
}

// Close closes the parts, after Run. A clean stop vouches for what is staged; an
// unclean one leaves the next start to verify it.
func (s *Server) Close(clean bool) error {
	var errs []error
	if s.Store != nil {
		errs = append(errs, s.Store.Close(clean && s.Journal.Err() == nil))
	}
	if s.Journal != nil {
		errs = append(errs, s.Journal.Close())
	}
	if s.mirror != nil {
		errs = append(errs, s.mirror.Close())
	}
	return errors.Join(append(errs, closeLock(s.lock))...)
}

// databasePath is the journal's file.
func databasePath(state string) string { return filepath.Join(state, "journal.db") }

func openJournal(state string) (*journal.Journal, error) {
	if err := durable.RemoveTemporary(databasePath(state)); err != nil {
		return nil, err
	}
	return journal.OpenFile(databasePath(state))
}

func missing(path string) bool {
	_, err := os.Stat(path)
	return errors.Is(err, fs.ErrNotExist)
}
