// SPDX-License-Identifier: AGPL-3.0-or-later

package publish

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lirios/ostree-upload/internal/bucket"
	"github.com/lirios/ostree-upload/internal/fault"
	"github.com/lirios/ostree-upload/internal/mirror"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/journal"
)

// inBucket is the production repository in an object store. Other servers may publish to
// it at the same time: what keeps them apart are the store's conditional writes. What the
// store has acknowledged is durable, so that there is nothing to sync.
type inBucket struct {
	*mirror.Mirror
	cfg  Config
	left sync.Map // keys of marks that could not be removed
}

func (b *inBucket) read() (*ostree.Repo, error) { return b.Strict() }

func (b *inBucket) readAll() (*ostree.Repo, error) { return b.Asking() }

func (b *inBucket) later(err error) (is bool, say string) {
	switch {
	case errors.Is(err, mirror.ErrPruning):
		return true, "waits for the end of a prune of the bucket"
	case bucket.Temporary(err):
		return true, "waits for the object store, which does not answer"
	case errors.Is(err, errOldMark):
		return true, "is tried again: " + err.Error()
	}
	return false, ""
}

func (b *inBucket) tidy(log *slog.Logger) error { return b.dropMarks(log) }

// bucketChange is a change of a repository in a bucket.
type bucketChange struct {
	*view
	*inBucket
	session *journal.Session
	marked  time.Time // when lock began to mark it
	half    bool      // some of the refs may have moved, and not all
}

func (b *inBucket) change(s *journal.Session, v *view) (change, error) {
	return &bucketChange{view: v, inBucket: b, session: s, half: s.Begun > 0}, nil
}

func (r *bucketChange) close() {}

func (r *bucketChange) sync() error { return nil }

// look asks the bucket for all that the closure relies on and this session does not
// write: somebody may have removed it, and the set of names would still have it.
func (r *bucketChange) look(ctx context.Context, c *closure, commits []ostree.Checksum) error {
	relied, err := r.relied(c, commits)
	if err != nil {
		return err
	}
	gone, err := r.Seek(ctx, relied)
	if err != nil {
		return err
	}
	lost := make(map[ostree.Name]bool, len(gone))
	for _, n := range gone {
		lost[n] = true
	}
	for _, n := range relied {
		if err := r.place(ctx, c, n, lost[n]); err != nil {
			return err
		}
	}
	if len(gone) > 0 {
		r.cfg.Log.Warn("the bucket lost objects that this server had seen there", "session", r.session.ID, "objects", len(gone), "object", gone[0].String())
	}
	return nil
}

// place notes where an object of the closure is that was looked for.
func (r *bucketChange) place(ctx context.Context, c *closure, n ostree.Name, lost bool) error {
	if !lost {
		c.note(n, published)
		return nil
	}
	staged, err := c.isStaged(ctx, n)
	if err != nil {
		return err
	}
	if staged {
		c.note(n, importable)
		return nil
	}
	c.note(n, nowhere)
	c.lacks(n)
	return nil
}

// relied are the objects of a closure that the set of names has.
func (r *bucketChange) relied(c *closure, commits []ostree.Checksum) (names []ostree.Name, err error) {
	for _, folder := range c.folders {
		for n, is := range folder {
			known := is == published
			if is == importable {
				if known, err = r.Has(n); err != nil {
					return nil, err
				}
			}
			if known {
				names = append(names, n)
			}
		}
	}
	for _, commit := range commits {
		n := ostree.Name{Checksum: commit, Type: ostree.CommitObject}
		staged, err := r.hasStaged(n)
		if err != nil {
			return nil, err
		}
		if !staged {
			names = append(names, n)
		}
	}
	return names, nil
}

func (r *bucketChange) importTree(ctx context.Context, c *closure) error {
	var mu sync.Mutex
	var written []ostree.Name
	g, each := errgroup.WithContext(ctx)
	g.SetLimit(mirror.Parallel)
	for _, folder := range c.folders {
		for n, is := range folder {
			if is != importable && is != replaceable {
				continue
			}
			g.Go(func() error {
				if err := r.write(each, n, is); err != nil {
					return err
				}
				mu.Lock()
				defer mu.Unlock()
				written = append(written, n)
				return nil
			})
		}
	}
	err := g.Wait()
	return errors.Join(err, r.Learn(written...)) // what was written before an error is there as well
}

// write writes an object from the staging, of which its file is the body.
func (r *bucketChange) write(ctx context.Context, n ostree.Name, is place) error {
	path := filepath.Join(r.cfg.Staged, "objects", n.Path())
	return fault.Point("write an object to the bucket", func() error {
		if is == replaceable {
			return r.Replace(ctx, n, path)
		}
		return r.Write(ctx, n, path)
	})
}

// importCommits brings in commits, the oldest first.
func (r *bucketChange) importCommits(ctx context.Context, commits []ostree.Checksum) error {
	for i := len(commits) - 1; i >= 0; i-- {
		n := ostree.Name{Checksum: commits[i], Type: ostree.CommitObject}
		staged, err := r.hasStaged(n)
		if err != nil {
			return err
		}
		if !staged {
			continue // look has seen it
		}
		path := filepath.Join(r.cfg.Staged, "objects", n.Path())
		write := r.Write
		if r.repair { // the bucket may have a damaged one
			write = r.Replace
		}
		if err := fault.Point("write a commit to the bucket", func() error { return write(ctx, n, path) }); err != nil {
			return err
		}
		if err := r.Learn(n); err != nil {
			return err
		}
	}
	return nil
}

// revive does nothing: no server leaves a mark of an incomplete commit in a bucket.
func (r *bucketChange) revive(context.Context, ostree.Checksum) error { return nil }

// mostSwaps is how often a conditional write is tried that others come before.
const mostSwaps = 10

// writeMeta merges a commit's detached metadata with what the bucket has by then.
func (r *bucketChange) writeMeta(ctx context.Context, c ostree.Checksum, meta []byte) error {
	n := ostree.Name{Checksum: c, Type: ostree.CommitMeta}
	for range mostSwaps {
		there, etag, err := r.Bucket.Get(ctx, mirror.Key(n), ostree.MaxMetadata)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if r.repair && ostree.ParseCommitMeta(there) != nil {
			there = nil
		}
		merged, err := ostree.MergeCommitMeta(there, meta)
		if err != nil {
			return fmt.Errorf("commit %s: %w", c, err)
		}
		if etag != "" && bytes.Equal(merged, there) {
			return r.Learn(n)
		}
		err = fault.Point("write detached metadata to the bucket", func() error {
			_, err := r.Bucket.Swap(ctx, mirror.Key(n), merged, etag)
			return err
		})
		if err == nil {
			_, err := r.repo.Metadata(n) // which notes it
			return err
		}
		if !errors.Is(err, bucket.ErrChanged) {
			return err
		}
	}
	return fmt.Errorf("the detached metadata of commit %s changes all the time", c)
}
