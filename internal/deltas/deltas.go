// SPDX-License-Identifier: AGPL-3.0-or-later

// Package deltas keeps up the static deltas of a repository: those that the rules of
// an operator ask for are made, and those that it made and that are superseded are
// removed after a time.
//
//   - A delta is made in a folder of its own, by another process, and gets its name whole
//     and durable, at one rename. One that is there is never written again: its parts
//     could not change together.
//   - It removes only what it has made itself, by its record in the state folder: what
//     others made is theirs.
//   - The record names a delta before it is there, and until its index tells that it is
//     gone: whatever a crash leaves half done, the next run finds there.
//   - It holds no lock of the repository while a delta is made.
//
// One goroutine at a time may call Do. Sizes are bytes.
package deltas

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lirios/ostree-upload/internal/libostree"
	"github.com/lirios/ostree-upload/internal/ostree"
)

// A Rule asks for deltas.
type Rule struct {
	Refs []string // to where these refs are; globs
	From []int    // from so many commits back, at least one number; 0: from nothing
}

// Settings say which deltas there are to be, and how they are made.
type Settings struct {
	Rules     []Rule
	AtOnce    int           // how many are made at a time
	Keep      time.Duration // how long a superseded one stays
	MaxBsdiff uint32        // as Generate takes it
	Timeout   time.Duration // for one of them
	// MinFree is what is left free on the disk, besides what the repository's own
	// settings say.
	MinFree int64
}

// Keeper keeps up the deltas of one repository.
type Keeper struct {
	Repo  string // the repository
	State string // the folder of the record
	// Generate writes a delta into a folder and makes it durable there.
	Generate func(ctx context.Context, s Settings, d Delta, folder string) error
	Log      *slog.Logger
}

// Do makes what the rules ask for and is not there, then removes what has been
// superseded for long enough. It looks again while it works, so that refs that moved
// meanwhile count. A delta that cannot be made holds up no other.
func (k *Keeper) Do(ctx context.Context, s Settings) error {
	rec, err := readRecord(k.State)
	if err != nil {
		return err
	}
	r := &run{Keeper: k, Settings: s, rec: rec, failed: make(map[Delta]error)}
	if r.repo, err = ostree.OpenRepo(k.Repo); err != nil {
		return err
	}
	if r.lib, err = libostree.Open(k.Repo); err != nil {
		return err
	}
	defer r.lib.Close()
	if err := errors.Join(r.sweep(), r.bringBack()); err != nil {
		return err
	}
	err = r.makeAll(ctx)
	if ctx.Err() == nil {
		err = errors.Join(err, r.tidy(ctx))
	}
	return err
}

// Untold tells whether a summary which lists deltas has to be written anew.
func (k *Keeper) Untold() (bool, error) {
	rec, err := readRecord(k.State)
	return err == nil && rec.Untold, err
}

// Told records that it is going to be.
func (k *Keeper) Told() error {
	rec, err := readRecord(k.State)
	if err != nil || !rec.Untold {
		return err
	}
	rec.Untold = false
	return rec.write(k.State)
}

// run is one call of Do.
type run struct {
	*Keeper
	Settings
	repo   *ostree.Repo
	lib    *libostree.Repo
	rec    *record
	failed map[Delta]error // what could not be made in this run
}

// lookAgain is how long it goes on with what was missing: to look through many refs takes
// longer than to make a small delta.
const lookAgain = 10 * time.Second

// makeAll makes what is wanted until nothing is missing but what failed.
func (r *run) makeAll(ctx context.Context) (err error) {
	var missing []wanted
	var looked time.Time
	for ctx.Err() == nil {
		if len(missing) == 0 || time.Since(looked) > lookAgain {
			if missing, err = r.missing(); err != nil {
				return err
			}
			looked = time.Now()
		}
		if len(missing) == 0 {
			return r.failures()
		}
		some := min(len(missing), max(1, r.AtOnce))
		if err := r.makeSome(ctx, missing[:some]); err != nil {
			return err
		}
		missing = missing[some:]
	}
	return ctx.Err()
}

// makeSome makes some deltas at the same time.
func (r *run) makeSome(ctx context.Context, some []wanted) error {
	for _, w := range some {
		r.rec.intend(w.Delta)
	}
	if err := r.rec.write(r.State); err != nil {
		return err
	}
	errs := make([]error, len(some))
	var g errgroup.Group
	for i, w := range some {
		g.Go(func() error {
			errs[i] = r.make(ctx, w)
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return r.note(ctx, some, errs)
}

// note records what became of some deltas. It ends the run where the next one would
// fail as well.
func (r *run) note(ctx context.Context, some []wanted, errs []error) error {
	for i, w := range some {
		var full *noRoomError
		switch err := errs[i]; {
		case err == nil:
			if err := r.index(w.Delta); err != nil {
				return err
			}
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.As(err, &full):
			return err
		case !errors.Is(err, errSuperseded):
			r.fail(w, err)
		}
	}
	return nil
}

// fail notes that a delta cannot be made in this run.
func (r *run) fail(w wanted, err error) {
	if _, known := r.failed[w.Delta]; !known {
		r.Log.Warn("cannot make a static delta", "delta", w.Delta, "ref", w.refList(), "err", err)
	}
	r.failed[w.Delta] = err
}

// index brings the index of a delta's target up to date, and records that.
func (r *run) index(d Delta) error {
	if err := r.lib.ReindexDeltas(d.To); err != nil {
		return err
	}
	r.rec.indexed(d, r.isThere(d))
	return r.rec.write(r.State)
}

// failures are what could not be made, in a bounded number of words.
func (r *run) failures() error {
	const most = 3
	var errs []error
	for d, err := range r.failed {
		if len(errs) == most {
			return errors.Join(append(errs, fmt.Errorf("and %d others; the log names them", len(r.failed)-most))...)
		}
		errs = append(errs, fmt.Errorf("static delta %s: %w", d, err))
	}
	return errors.Join(errs...)
}
