// SPDX-License-Identifier: AGPL-3.0-or-later

// Package prune removes the commits that no ref keeps, and the objects that only
// they need.
//
//   - What a session relies on stays as long as it lives: the commits that its refs
//     name or named, those that it found here, and what it was told is here.
//   - A commit goes before what it needs, durably: whatever a crash leaves, no commit
//     lacks an object, and the next run removes the rest.
//   - Whatever is decided without the repository's exclusive lock is looked at again
//     under it, before anything is removed.
//   - Nothing is removed while a commit that stays is damaged: what it needs cannot be
//     known then.
//
// One run works on a repository at a time. Sizes are bytes, as stored.
package prune

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/hint"
	"github.com/lirios/ostree-upload/internal/mirror"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/journal"
)

// Config says what is pruned, and what stays.
type Config struct {
	Repo    string
	Mirror  *mirror.Mirror   // of a repository in a bucket; nil: it is on the disk
	Keep    []config.Keep    // the first that concerns a ref counts
	Journal *journal.Journal // of the sessions; nil if there was never one
	// Telling is held to read by whoever tells a client that objects are here, until the
	// journal has noted it; nil where nobody does.
	Telling *sync.RWMutex
	// Spare is nil, or tells which commits that no ref reaches are to stay for now.
	Spare func(unreached []ostree.Checksum) (stay map[ostree.Checksum]bool, err error)
	Log   *slog.Logger
}

// How long the exclusive lock is held, and how long it is free then. libostree looks
// for it once a second: whoever waits gets it in the first pause.
const (
	batchTime = 500 * time.Millisecond
	pauseTime = 1100 * time.Millisecond
)

// errNoLock is why a repository without locks is not pruned.
var errNoLock = hint.Add(errors.New("core.locking is false in the repository: nothing keeps others from relying on what is removed"),
	"take core.locking out of the repository's config")

// Look tells what Run would remove now, and changes nothing.
func Look(ctx context.Context, cfg Config) (*wire.Pruned, error) {
	if cfg.Mirror != nil {
		return inBucket(ctx, cfg, true, grace)
	}
	r, err := begin(cfg)
	if err != nil {
		return nil, err
	}
	if err := r.look(ctx, true); err != nil {
		return nil, err
	}
	return r.foresee(ctx)
}

// Run removes what nothing keeps. Without all it looks for that only if there are
// commits to remove, which is much quicker. After an error, what the report counts is
// removed, and the next run goes on. In a bucket, which has to be listed for that, it looks
// for nothing unless all is asked for.
func Run(ctx context.Context, cfg Config, all bool) (*wire.Pruned, error) {
	if cfg.Mirror != nil && !all {
		return &wire.Pruned{Rules: len(cfg.Keep)}, nil
	}
	if cfg.Mirror != nil {
		return inBucket(ctx, cfg, false, grace)
	}
	r, err := begin(cfg)
	if err != nil {
		return nil, err
	}
	if err := r.look(ctx, all); err != nil || len(r.going) == 0 && !all {
		return r.report, err
	}
	return r.report, r.remove(ctx)
}

// run is one look at a repository, and perhaps what is removed then.
type run struct {
	cfg     Config
	repo    *ostree.Repo
	history *history
	now     time.Time
	report  *wire.Pruned
	batch   time.Duration // batchTime, pauseTime
	pause   time.Duration

	listed [ostree.Folders]time.Time    // when each folder was last changed, as far as it was listed
	here   map[ostree.Checksum]bool     // commits
	stay   map[ostree.Checksum]string   // those that stay, and why
	going  []ostree.Checksum            // those that do not, each after its parent
	sizes  map[ostree.Name]int64        // of objects in a bucket; nil: the disk tells
	young  []ostree.Checksum            // commits in a bucket that stay for now, as they are new
	rest   map[ostree.Name]struct{}     // other objects, unless a commit that stays was seen to need it
	walked map[ostree.Checksum]struct{} // commits and dirtrees whose children are out of rest
}

func begin(cfg Config) (*run, error) {
	repo, err := ostree.OpenRepo(cfg.Repo)
	if err != nil {
		return nil, err
	}
	if !repo.Locks() {
		return nil, errNoLock
	}
	return newRun(cfg, repo), nil
}

func newRun(cfg Config, repo *ostree.Repo) *run {
	r := &run{cfg: cfg, repo: repo, now: time.Now(), report: &wire.Pruned{Rules: len(cfg.Keep)}, batch: batchTime, pause: pauseTime}
	r.history = newHistory(r.readCommit)
	r.here, r.rest = make(map[ostree.Checksum]bool), make(map[ostree.Name]struct{})
	r.walked = make(map[ostree.Checksum]struct{})
	return r
}

// look lists the repository, chooses the commits that go, and finds what those that
// stay need: only if some go, unless all is asked for.
func (r *run) look(ctx context.Context, all bool) error {
	if err := r.list(ctx); err != nil {
		return err
	}
	if err := r.choose(); err != nil {
		return err
	}
	if len(r.going) == 0 && !all {
		return nil
	}
	return r.walkStaying(ctx)
}
