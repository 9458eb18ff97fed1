// SPDX-License-Identifier: AGPL-3.0-or-later

package server

import (
	"context"
	"errors"
	"time"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/durable"
	"github.com/lirios/ostree-upload/internal/hint"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/prune"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/journal"
	"github.com/lirios/ostree-upload/publish"
)

// When the server prunes by itself: a short time after a publish and every hour, and
// never for more than a twentieth of its time. All that no commit needs is looked for
// at the start and once a day, else only what goes with commits.
const (
	pruneAfter = 5 * time.Second
	pruneEvery = time.Hour
	pruneShare = 20
	pruneAll   = 24 * time.Hour
)

// A pruner prunes one repository, once at a time.
type pruner struct {
	cfg  prune.Config
	turn chan struct{} // holds one while nobody prunes
	kick chan struct{} // a ref has moved
	// lost gets the error of a sync that failed: the server has to end then.
	lost chan error
	// askSummary has the summary written, which names the static deltas.
	askSummary func() error
	seen       func(r *wire.Pruned, err error) // is told of each run that is no dry run and was not cut off
}

func newPruner(cfg prune.Config, askSummary func() error) *pruner {
	p := &pruner{cfg: cfg, askSummary: askSummary, seen: func(*wire.Pruned, error) {}, turn: make(chan struct{}, 1), kick: make(chan struct{}, 1), lost: make(chan error, 1)}
	p.turn <- struct{}{}
	return p
}

// moved tells that a ref has moved, so that there may be something to prune.
func (p *pruner) moved() {
	select {
	case p.kick <- struct{}{}:
	default: // one is on its way
	}
}

// A pruning is prune.Run or prune.Look.
type pruning func(context.Context, prune.Config) (*wire.Pruned, error)

// run does one run that keeps what it is told to.
func (p *pruner) run(ctx context.Context, keep []config.Keep, do pruning) (*wire.Pruned, error) {
	select {
	case <-p.turn:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { p.turn <- struct{}{} }()
	cfg := p.cfg
	cfg.Keep = keep
	start := time.Now()
	r, err := do(ctx, cfg)
	if errors.Is(err, durable.ErrNotSynced) {
		select {
		case p.lost <- err:
		default: // one is enough
		}
	}
	if r == nil || r.DryRun || r.Commits+r.Objects+r.Deltas == 0 {
		return r, err
	}
	cfg.Log.Info("pruned", "commits", r.Commits, "objects", r.Objects, "deltas", r.Deltas, "bytes", r.Bytes, "took", time.Since(start))
	if r.Deltas > 0 {
		err = errors.Join(err, p.askSummary())
	}
	return r, err
}

// once is a run for somebody who asks for it.
func (p *pruner) once(ctx context.Context, keep []config.Keep, dryRun bool) (*wire.Pruned, error) {
	if dryRun {
		return p.run(ctx, keep, prune.Look)
	}
	return p.remove(ctx, keep, func(ctx context.Context, cfg prune.Config) (*wire.Pruned, error) { return prune.Run(ctx, cfg, true) })
}

// remove is a run that removes something.
func (p *pruner) remove(ctx context.Context, keep []config.Keep, do pruning) (*wire.Pruned, error) {
	r, err := p.run(ctx, keep, do)
	if ctx.Err() == nil {
		p.seen(r, err)
	}
	return r, err
}

// Prune removes what is not to be kept or, for a dry run, tells what that is.
func (s *Server) Prune(ctx context.Context, keep []config.Keep, dryRun bool) (*wire.Pruned, error) {
	return s.pruner.once(ctx, keep, dryRun)
}

// retain prunes by itself, if the configuration says what to keep, until ctx ends.
func (s *Server) retain(ctx context.Context) error {
	wait, last := pruneAfter, time.Time{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-s.pruner.lost:
			return err
		case <-time.After(wait):
		}
		start := time.Now()
		if keep := s.opt.Settings().Keep; keep != nil {
			all := start.Sub(last) > pruneAll
			if s.pruneByItself(ctx, keep, all) && all {
				last = start
			}
		}
		wait = max(pruneAfter, min(pruneEvery, pruneShare*time.Since(start)))
		select {
		case <-ctx.Done():
			return nil
		case err := <-s.pruner.lost:
			return err
		case <-s.pruner.kick:
		case <-time.After(pruneEvery):
		}
	}
}

// pruneByItself does one run of the server's own. What fails is tried again.
func (s *Server) pruneByItself(ctx context.Context, keep []config.Keep, all bool) (done bool) {
	_, err := s.pruner.remove(ctx, keep, func(ctx context.Context, cfg prune.Config) (*wire.Pruned, error) {
		cfg.Spare = func(unreached []ostree.Checksum) (map[ostree.Checksum]bool, error) {
			return spare(s.opt.State, unreached, time.Now())
		}
		return prune.Run(ctx, cfg, all)
	})
	if err == nil || ctx.Err() != nil {
		return err == nil
	}
	s.opt.Log.Warn("cannot prune, which will be tried again", "err", err, "hint", hint.Of(err))
	s.pruner.moved()
	return false
}

// Prune prunes the repository of a server: by that server, if one runs. As for Check,
// without one this has to be the owner of the repository, or root.
func Prune(ctx context.Context, opt Options, dryRun bool) (*wire.Pruned, error) {
	if _, err := ostree.OpenRepo(opt.Repo); err != nil && opt.Bucket == nil {
		return nil, hint.Add(err, "name the repository with --repo")
	}
	lock, err := lockEarly(ctx, opt)
	if errors.Is(err, durable.ErrLocked) {
		return askToPrune(ctx, opt, dryRun)
	}
	if err != nil {
		return nil, err
	}
	if err := closeLock(lock); err != nil {
		return nil, err
	}
	takeUmask(opt.Repo)
	if err := becomeOwner(opt); err != nil {
		return nil, err
	}
	if opt.Bucket == nil {
		return pruneStopped(ctx, opt, dryRun)
	}
	if err := prepareMirror(ctx, &opt); err != nil {
		return nil, ownCredentials(err)
	}
	r, err := pruneStopped(ctx, opt, dryRun)
	return r, ownCredentials(err)
}

// pruneStopped prunes where no server runs.
func pruneStopped(ctx context.Context, opt Options, dryRun bool) (r *wire.Pruned, err error) {
	lock, err := lockRepo(ctx, opt)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if err := shareLock(opt.Repo); err != nil {
		return nil, err
	}
	_, m, err := readRepo(ctx, opt)
	if err != nil {
		return nil, err
	}
	if m != nil {
		defer func() { err = errors.Join(err, m.Close()) }()
	}
	cfg := prune.Config{Repo: opt.Repo, Mirror: m, Log: opt.Log}
	if !missing(databasePath(opt.State)) {
		var j *journal.Journal
		if j, err = openJournal(opt.State); err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, j.Close()) }()
		cfg.Journal = j
	}
	askSummary := func() error {
		if cfg.Journal == nil {
			return nil // no server has it
		}
		return publish.AskSummary(cfg.Journal)
	}
	return newPruner(cfg, askSummary).once(ctx, opt.Settings().Keep, dryRun)
}
