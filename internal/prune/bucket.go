// SPDX-License-Identifier: AGPL-3.0-or-later

package prune

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lirios/ostree-upload/internal/bucket"
	"github.com/lirios/ostree-upload/internal/fault"
	"github.com/lirios/ostree-upload/internal/hint"
	"github.com/lirios/ostree-upload/internal/mirror"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
)

// grace is how old an object of a bucket has to be before it is removed: servers that
// publish write objects before anything names them.
const grace = 24 * time.Hour

// How long a prune of a bucket waits for publishes to end, and how often it looks.
const (
	publishesTime  = 5 * time.Minute
	publishesEvery = time.Second
)

// A bucketRun is one look at a repository in a bucket, and what is removed then: under a
// lease, while no server publishes to the bucket.
type bucketRun struct {
	*run
	mirror *mirror.Mirror
	grace  time.Duration
	mu     sync.Mutex // guards what several list and remove
}

// inBucket prunes a repository in a bucket, or for a dry run tells what that would remove.
func inBucket(ctx context.Context, cfg Config, dryRun bool, grace time.Duration) (*wire.Pruned, error) {
	repo, err := cfg.Mirror.Asking() // other servers publish as well
	if err != nil {
		return nil, err
	}
	r := &bucketRun{run: newRun(cfg, repo), mirror: cfg.Mirror, grace: grace}
	r.sizes = make(map[ostree.Name]int64)
	if err := r.look(ctx); err != nil {
		return nil, err
	}
	if dryRun {
		return r.foresee(ctx)
	}
	if len(r.going) == 0 && len(r.rest) == 0 {
		return r.report, nil
	}
	return r.report, r.underLease(ctx)
}

// look lists the bucket, and finds what is to stay.
func (r *bucketRun) look(ctx context.Context) error {
	if err := r.mirror.List(ctx, r.note); err != nil {
		return err
	}
	if err := r.choose(); err != nil {
		return err
	}
	return r.walkStaying(ctx)
}

// note notes an object that is there. Detached metadata belongs to its commit, and what is
// young stays.
func (r *bucketRun) note(n ostree.Name, e bucket.Entry) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := e.Age >= r.grace
	switch {
	case n.Type == ostree.CommitMeta:
		return nil
	case n.Type == ostree.CommitObject:
		r.here[n.Checksum] = true
		if !old {
			r.young = append(r.young, n.Checksum)
		}
	case old:
		r.rest[n] = struct{}{}
	}
	r.sizes[n] = e.Size
	return nil
}

// underLease removes while nobody publishes.
func (r *bucketRun) underLease(ctx context.Context) (err error) {
	lease, err := r.mirror.TakeLease(ctx)
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		err = errors.Join(err, lease.Release(ctx))
	}()
	if err := r.awaitPublishes(ctx, lease); err != nil {
		return err
	}
	if err := r.lookAtNew(ctx); err != nil {
		return err
	}
	if err := r.removeBehind(ctx, lease, r.going); err != nil {
		return err
	}
	if err := r.walkLeft(ctx); err != nil {
		return err
	}
	return r.removeObjects(ctx, lease)
}

// awaitPublishes waits until no publish is under way. None begins while the lease lasts.
func (r *bucketRun) awaitPublishes(ctx context.Context, lease *mirror.Lease) error {
	for began := time.Now(); ; {
		marks, err := r.mirror.Publishing(ctx)
		if err != nil || len(marks) == 0 {
			return err
		}
		if time.Since(began) > publishesTime {
			return hint.Add(fmt.Errorf("%d publishes to the bucket have not ended for %s, such as %s", len(marks), publishesTime, marks[0]),
				"try again later; the mark of a server that is gone for good counts for %s", mirror.MarkTime)
		}
		if err := lease.Renew(ctx); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(publishesEvery):
		}
	}
}

// lookAtNew keeps what refs name by now, which may need what nothing needed when the bucket
// was listed.
func (r *bucketRun) lookAtNew(ctx context.Context) error {
	refs, err := r.refs()
	if err != nil {
		return err
	}
	for _, is := range refs {
		if err := r.arrived(is.tip); err != nil {
			return err
		}
	}
	if err := r.lookAgain(); err != nil {
		return err
	}
	return r.walkStaying(ctx)
}

// arrived keeps a commit and those before it that came since the bucket was listed.
func (r *bucketRun) arrived(c ostree.Checksum) error {
	for !r.here[c] {
		commit, err := r.readCommit(c)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // of the tip of a ref, lookAgain says so
		}
		if err != nil {
			return damaged(err)
		}
		r.here[c] = true
		r.keep(c, "a publish of this moment")
		if !commit.HasParent {
			return nil
		}
		c = commit.Parent
	}
	return nil
}

// removeBehind removes commits one after the other, each behind its parent.
func (r *bucketRun) removeBehind(ctx context.Context, lease *mirror.Lease, commits []ostree.Checksum) error {
	for _, c := range commits {
		if err := lease.Renew(ctx); err != nil {
			return err
		}
		commit, meta := ostree.Name{Checksum: c, Type: ostree.CommitObject}, ostree.Name{Checksum: c, Type: ostree.CommitMeta}
		err := r.mirror.Forget(commit, meta)
		if err == nil {
			err = r.removeOne(ctx, lease, commit)
		}
		if err == nil {
			err = r.removeOne(ctx, lease, meta)
		}
		if err != nil {
			return err
		}
		delete(r.here, c)
		r.history.forget(c)
		r.report.Commits++
		r.report.Bytes += r.sizes[commit]
	}
	return nil
}

// removeOne removes an object, if that is done while the lease lasts.
func (r *bucketRun) removeOne(ctx context.Context, lease *mirror.Lease, n ostree.Name) error {
	ctx, cancel := lease.While(ctx)
	defer cancel()
	return fault.Point("remove an object from the bucket", func() error { return r.mirror.Bucket.Delete(ctx, mirror.Key(n), "") })
}

// removeObjects removes what no commit needs, some at a time.
func (r *bucketRun) removeObjects(ctx context.Context, lease *mirror.Lease) error {
	names := slices.SortedFunc(maps.Keys(r.rest), ostree.Name.Compare)
	for some := range slices.Chunk(names, chunk) {
		if err := lease.Renew(ctx); err != nil {
			return err
		}
		free, err := r.unneeded(some)
		if err != nil {
			return err
		}
		// First out of the set: one that it lacks is sent again.
		if err := r.mirror.Forget(free...); err != nil {
			return err
		}
		if err := r.removeChunk(ctx, lease, free); err != nil {
			return err
		}
	}
	return nil
}

func (r *bucketRun) removeChunk(ctx context.Context, lease *mirror.Lease, names []ostree.Name) error {
	g, each := errgroup.WithContext(ctx)
	g.SetLimit(mirror.Parallel)
	for _, n := range names {
		g.Go(func() error {
			if err := r.removeOne(each, lease, n); err != nil {
				return err
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			r.report.Objects++
			r.report.Bytes += r.sizes[n]
			return nil
		})
	}
	return g.Wait()
}
