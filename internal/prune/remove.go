// SPDX-License-Identifier: AGPL-3.0-or-later

package prune

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/lirios/ostree-upload/internal/durable"
	"github.com/lirios/ostree-upload/internal/fault"
	"github.com/lirios/ostree-upload/internal/libostree"
	"github.com/lirios/ostree-upload/internal/ostree"
)

// chunk is how many objects are removed between two looks at the clock.
const chunk = 256

// remove removes the commits that go and then what only they needed.
func (r *run) remove(ctx context.Context) error {
	dst, err := libostree.Open(r.cfg.Repo)
	if err != nil {
		return err
	}
	defer dst.Close()
	if err := r.removeCommits(ctx, dst); err != nil {
		return err
	}
	// A power cut must not bring back a commit without its objects.
	if r.report.Commits > 0 {
		if err := durable.SyncFS(r.cfg.Repo); err != nil {
			return err
		}
	}
	if err := r.removeDeltas(ctx, dst); err != nil {
		return err
	}
	return r.removeRest(ctx, dst)
}

// alone does something under the repository's exclusive lock, while nobody tells a
// client what is here.
func (r *run) alone(ctx context.Context, dst *libostree.Repo, do func() error) (err error) {
	lock := func() error { return dst.Lock(ctx, libostree.Exclusive) }
	if err := fault.Point("lock the repository to remove", lock); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dst.Unlock(libostree.Exclusive)) }()
	if r.cfg.Telling != nil {
		r.cfg.Telling.Lock()
		defer r.cfg.Telling.Unlock()
	}
	return do()
}

// wait waits between two times under the lock, in which others get it.
func (r *run) wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(r.pause):
		return nil
	}
}

// removeCommits removes the commits that go, as many at a time as there is time for.
func (r *run) removeCommits(ctx context.Context, dst *libostree.Repo) error {
	for first := true; len(r.going) > 0; first = false {
		if !first {
			if err := r.wait(ctx); err != nil {
				return err
			}
		}
		err := r.alone(ctx, dst, func() error {
			if err := r.lookAgain(); err != nil {
				return err
			}
			return r.removeSomeCommits(ctx, dst)
		})
		if err != nil {
			return err
		}
	}
	return r.walkLeft(ctx)
}

// removeSomeCommits removes the first of those that go, for as long as a batch may
// take, and one at least.
func (r *run) removeSomeCommits(ctx context.Context, dst *libostree.Repo) error {
	until := time.Now().Add(r.batch)
	for more := len(r.going) > 0; more; more = len(r.going) > 0 && time.Now().Before(until) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := r.removeCommit(dst, r.going[0]); err != nil {
			return err
		}
		r.going = r.going[1:]
	}
	return nil
}

// lookAgain takes those commits out of what goes that a ref or a session needs by now.
func (r *run) lookAgain() error {
	refs, err := r.refs()
	if err != nil {
		return err
	}
	stay, err := keptBy(r.history, refs, r.cfg.Keep, r.now)
	if err != nil {
		return err
	}
	for c, who := range stay {
		r.keep(c, who)
	}
	if err := r.keepRelied(r.going); err != nil {
		return err
	}
	r.going = slices.DeleteFunc(r.going, func(c ostree.Checksum) bool {
		_, stays := r.stay[c]
		return stays
	})
	return nil
}

func (r *run) removeCommit(dst *libostree.Repo, c ostree.Checksum) error {
	n := ostree.Name{Checksum: c, Type: ostree.CommitObject}
	size, err := r.size(n)
	if err != nil {
		return err
	}
	if err := fault.Point("remove a commit", func() error { return dst.Remove(n) }); err != nil {
		return err
	}
	delete(r.here, c) // it may come again
	r.history.forget(c)
	r.report.Commits++
	r.report.Bytes += size
	return nil
}

// removeDeltas removes the static deltas to commits that are gone.
func (r *run) removeDeltas(ctx context.Context, dst *libostree.Repo) error {
	some, err := dst.Deltas()
	if err != nil || len(some) == 0 {
		return err
	}
	return r.alone(ctx, dst, func() error {
		return fault.Point("remove static deltas", func() error {
			removed, err := dst.PruneDeltas()
			r.report.Deltas += removed
			return err
		})
	})
}

// deltas counts the static deltas to commits that go.
func (r *run) deltas() (n int, err error) {
	repo, err := libostree.Open(r.cfg.Repo)
	if err != nil {
		return 0, err
	}
	defer repo.Close()
	all, err := repo.Deltas()
	for _, name := range all {
		to := name[strings.LastIndex(name, "-")+1:]
		c, err := ostree.ParseChecksum(to)
		if _, stays := r.stay[c]; err == nil && !stays {
			n++
		}
	}
	return n, err
}

// removeRest removes the objects that no commit needs, as many at a time as there is
// time for.
func (r *run) removeRest(ctx context.Context, dst *libostree.Repo) error {
	names := slices.SortedFunc(maps.Keys(r.rest), ostree.Name.Compare)
	for again := false; len(names) > 0; {
		fresh := false
		err := r.alone(ctx, dst, func() (err error) {
			// What came meanwhile may need what was of no use before. It is walked
			// without the lock, but not for ever: one commit may follow the other.
			if fresh, err = r.newCommits(); err != nil || fresh && !again {
				return err
			}
			if err := r.walkLeft(ctx); err != nil {
				return err
			}
			fresh = false
			names, err = r.removeSome(ctx, dst, names)
			return err
		})
		if err != nil {
			return err
		}
		if again = fresh; again {
			err = r.walkLeft(ctx)
		} else if len(names) > 0 {
			err = r.wait(ctx)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// removeSome removes the first of some objects, for as long as a batch may take, and
// returns the others.
func (r *run) removeSome(ctx context.Context, dst *libostree.Repo, names []ostree.Name) ([]ostree.Name, error) {
	until := time.Now().Add(r.batch)
	for more := true; more; more = len(names) > 0 && time.Now().Before(until) {
		if err := ctx.Err(); err != nil {
			return names, err
		}
		some := names[:min(chunk, len(names))]
		free, err := r.unneeded(some)
		if err != nil {
			return names, err
		}
		if err := fault.Point("remove objects", func() error { return r.removeAll(dst, free) }); err != nil {
			return names, err
		}
		names = names[len(some):]
	}
	return names, nil
}

// unneeded are those of some objects that are still of the rest, and in the set of no
// session that lives.
func (r *run) unneeded(names []ostree.Name) ([]ostree.Name, error) {
	needed := make([]bool, len(names))
	if r.cfg.Journal != nil {
		var err error
		if needed, err = r.cfg.Journal.Needed(names...); err != nil {
			return nil, err
		}
	}
	var free []ostree.Name
	for i, n := range names {
		if _, ofRest := r.rest[n]; ofRest && !needed[i] {
			free = append(free, n)
		}
	}
	return free, nil
}

func (r *run) removeAll(dst *libostree.Repo, names []ostree.Name) error {
	for _, n := range names {
		size, err := r.size(n)
		if err != nil {
			return err
		}
		if err := dst.Remove(n); err != nil {
			return err
		}
		r.report.Objects++
		r.report.Bytes += size
	}
	return nil
}
