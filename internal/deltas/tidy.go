// SPDX-License-Identifier: AGPL-3.0-or-later

package deltas

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/lirios/ostree-upload/internal/durable"
	"github.com/lirios/ostree-upload/internal/fault"
	"github.com/lirios/ostree-upload/internal/libostree"
)

// tidy notes which of the deltas are superseded, removes those that have been so for
// long enough, and brings up to date the indexes that a crash left behind.
func (r *run) tidy(ctx context.Context) error {
	if err := r.mark(time.Now()); err != nil {
		return err
	}
	if err := r.removeOld(ctx, time.Now().Add(-r.Keep)); err != nil {
		return err
	}
	return r.settle()
}

// settle brings the record to where the deltas are.
func (r *run) settle() error {
	changed := false
	for d, e := range r.rec.Deltas {
		switch there := r.isThere(d); {
		case e.Indexed != there:
			if err := r.index(d); err != nil {
				return err
			}
		case !there: // it was never made
			delete(r.rec.Deltas, d)
			changed = true
		}
	}
	if !changed {
		return nil
	}
	return r.rec.write(r.State)
}

// Old tells whether one of the deltas has been superseded for so long that Do would
// remove it.
func (k *Keeper) Old(keep time.Duration) (bool, error) {
	rec, err := readRecord(k.State)
	if err != nil {
		return false, err
	}
	before := time.Now().Add(-keep)
	for _, e := range rec.Deltas {
		if e.old(before) {
			return true, nil
		}
	}
	return false, nil
}

// mark notes since when deltas are superseded.
func (r *run) mark(now time.Time) error {
	list, err := r.wanted()
	if err != nil {
		return err
	}
	asked := make(map[Delta]bool)
	for _, w := range list {
		asked[w.Delta] = true
	}
	changed := false
	for d, e := range r.rec.Deltas {
		if asked[d] == e.Superseded.IsZero() {
			continue
		}
		changed = true
		if e.Superseded = now; asked[d] {
			e.Superseded = time.Time{}
		}
	}
	if !changed {
		return nil
	}
	return r.rec.write(r.State)
}

// removeOld takes away the deltas that were superseded before a time.
func (r *run) removeOld(ctx context.Context, before time.Time) error {
	var old []Delta
	for d, e := range r.rec.Deltas {
		if e.old(before) && r.isThere(d) {
			old = append(old, d)
		}
	}
	if len(old) == 0 {
		return nil
	}
	if err := r.takeAway(ctx, old); err != nil {
		return err
	}
	for _, d := range old {
		if err := errors.Join(os.RemoveAll(r.temp(prefix, d)), r.index(d)); err != nil {
			return err
		}
		r.Log.Info("removed a static delta that was superseded", "delta", d)
	}
	return nil
}

// takeAway renames deltas out of their places, each at once. It holds the exclusive
// lock: who writes a summary holds the other one, lists the deltas and then reads them.
func (r *run) takeAway(ctx context.Context, old []Delta) (err error) {
	if err := r.lib.Lock(ctx, libostree.Exclusive); err != nil {
		return err
	}
	err = r.rename(old)
	if err = errors.Join(err, r.lib.Unlock(libostree.Exclusive)); err != nil {
		return err
	}
	return durable.SyncFS(r.Repo) // before the record forgets them
}

func (r *run) rename(old []Delta) error {
	for _, d := range old {
		if err := os.RemoveAll(r.temp(prefix, d)); err != nil {
			return err
		}
		err := fault.Point("take a delta away", func() error { return os.Rename(filepath.Join(r.Repo, d.path()), r.temp(prefix, d)) })
		if err != nil {
			return err
		}
	}
	return nil
}
