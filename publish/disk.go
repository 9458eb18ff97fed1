// SPDX-License-Identifier: AGPL-3.0-or-later

package publish

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lirios/ostree-upload/internal/durable"
	"github.com/lirios/ostree-upload/internal/fault"
	"github.com/lirios/ostree-upload/internal/libostree"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/journal"
)

// disk is the production repository in a folder, as libostree has it.
type disk struct {
	path, stagedPath string
	summary          *summary
}

func newDisk(cfg Config) *disk {
	return &disk{path: cfg.Repo, stagedPath: cfg.Staged, summary: newSummary(cfg.Repo, cfg.Summary, cfg.Keys)}
}

// later is for a lock: whoever waits for it says so.
func (d *disk) later(err error) (is bool, say string) { return errors.Is(err, libostree.ErrLocked), "" }

// passed is false: a ref moves under the lock, and a session that has moved one ends before
// the next one does.
func (d *disk) passed(*journal.Session, wire.Ref) (bool, error) { return false, nil }

// undo does nothing: the refs move under the lock, and the next start moves those that a
// crash has left.
func (d *disk) undo(context.Context, *journal.Session) (stay []string, err error) { return nil, nil }

func (d *disk) read() (*ostree.Repo, error) { return ostree.OpenRepo(d.path) }

func (d *disk) readAll() (*ostree.Repo, error) { return d.read() }

// diskChange is a change of a repository on the disk.
type diskChange struct {
	*view
	*disk
	dst, src *libostree.Repo
}

func (d *disk) change(_ *journal.Session, v *view) (change, error) {
	dst, err := libostree.Open(d.path)
	if err != nil {
		return nil, err
	}
	src, err := libostree.Open(d.stagedPath)
	if err != nil {
		dst.Close()
		return nil, err
	}
	return &diskChange{view: v, disk: d, dst: dst, src: src}, nil
}

// look does nothing: the closure has looked at each file.
func (r *diskChange) look(context.Context, *closure, []ostree.Checksum) error { return nil }

func (r *diskChange) close() {
	r.src.Close()
	r.dst.Close()
}

// lock takes libostree's shared lock: prune, which needs the exclusive one,
// waits until unlock.
func (r *diskChange) lock(ctx context.Context) (unlock func() error, err error) {
	err = fault.Point("lock the repository", func() error { return r.dst.Lock(ctx, libostree.Shared) })
	return func() error { return r.dst.Unlock(libostree.Shared) }, err
}

// aloneTime is how long a publish waits for the exclusive lock.
const aloneTime = 5 * time.Second

// follow writes the summary. A stop cuts off who signs, and nothing else: that is done in
// a moment.
func (r *diskChange) follow(ctx context.Context) (why string, err error) {
	if r.summary.keys() == nil {
		ctx = context.WithoutCancel(ctx)
	}
	return r.summary.write(ctx, r.dst)
}

// lockAlone turns the shared lock into the exclusive one, until unlock. Others may
// take the shared lock in turn, so that it is never free: then the refs move under
// the shared one, as they do for others of its holders. It keeps prune away, too, and
// the refs are compared with their old commits right before the first one moves. A
// stop does not cut off what is all but done.
func lockAlone(repo *libostree.Repo) (unlock func() error, err error) {
	wait, cancel := context.WithTimeout(context.Background(), aloneTime)
	defer cancel()
	err = repo.Lock(wait, libostree.Exclusive)
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, libostree.ErrLocked) {
		return func() error { return nil }, nil
	}
	return func() error { return repo.Unlock(libostree.Exclusive) }, err
}

// sync makes durable what was changed, whatever core.fsync says: libostree syncs
// neither the rename of a ref nor detached metadata.
func (r *diskChange) sync() error { return durable.SyncFS(r.path) }

// importTree brings in all objects of a closure but the commits. What can be
// linked needs no transaction, which would link it twice: its bytes are durable
// by now, and its name is there or not.
func (r *diskChange) importTree(_ context.Context, c *closure) error {
	if r.repo.Mode() == ostree.ModeArchive {
		if err := fault.Point("link the objects", func() error { return r.linkAll(c) }); err != nil {
			return err
		}
	}
	if !c.holds(importable, replaceable) {
		return nil
	}
	if err := transaction(r.dst, func() error { return r.importAll(c) }); err != nil {
		return err
	}
	return r.replaceFiles(c)
}

// importAll imports by several threads, as ostree pull does too. Each works on a
// folder of its own: others would wait for it there.
func (r *diskChange) importAll(c *closure) error {
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for _, folder := range c.folders {
		g.Go(func() error { return r.importFolder(folder) })
	}
	return g.Wait()
}

func (r *diskChange) importFolder(folder map[ostree.Name]place) error {
	for n, is := range folder {
		if is == importable {
			there, err := r.repo.Has(n)
			if err != nil {
				return err
			}
			if there {
				continue
			}
		} else if is != replaceable || r.replaces(n, is) {
			continue
		}
		if err := r.dst.Import(r.src, n); err != nil {
			return err
		}
	}
	return nil
}

// transaction has do fill a transaction of a repository and commits it.
func transaction(repo *libostree.Repo, do func() error) error {
	if err := repo.Begin(); err != nil {
		return err
	}
	err := fault.Point("fill a transaction", do)
	if err == nil {
		err = fault.Point("commit a transaction", repo.Commit)
	}
	if err != nil {
		return errors.Join(err, repo.Abort())
	}
	return nil
}

// importCommits brings in commits, and takes away what says that they are deleted
// or incomplete.
func (r *diskChange) importCommits(ctx context.Context, commits []ostree.Checksum) error {
	return transaction(r.dst, func() error {
		for _, c := range commits {
			if err := r.importCommit(ctx, c); err != nil {
				return err
			}
		}
		return nil
	})
}

func (r *diskChange) importCommit(ctx context.Context, c ostree.Checksum) error {
	n := ostree.Name{Checksum: c, Type: ostree.CommitObject}
	staged, err := r.hasStaged(n)
	if err != nil {
		return err
	}
	if staged {
		if err := r.dst.Import(r.src, n); err != nil {
			return err
		}
	}
	return r.revive(ctx, c)
}

// revive removes the marks of a commit that was deleted or incomplete.
func (r *diskChange) revive(_ context.Context, c ostree.Checksum) error {
	hex := c.String()
	tombstone := filepath.Join(r.path, "objects", hex[:2], hex[2:]+".tombstone-commit")
	if err := os.Remove(tombstone); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return fault.Point("mark a commit complete", func() error { return r.dst.MarkComplete(c) })
}

// writeMeta replaces a commit's detached metadata: not by libostree, which does
// not sync it, so that a power cut could take what was there before.
func (r *diskChange) writeMeta(_ context.Context, c ostree.Checksum, meta []byte) error {
	path := filepath.Join(r.path, "objects", ostree.Name{Checksum: c, Type: ostree.CommitMeta}.Path())
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil { // as libostree does
		return err
	}
	return durable.ReplaceFrom(filepath.Join(r.path, "tmp"), path, func(f *os.File) error {
		_, err := f.Write(meta)
		return errors.Join(err, f.Chmod(0o644))
	})
}
