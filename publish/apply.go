// SPDX-License-Identifier: AGPL-3.0-or-later

package publish

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lirios/ostree-upload/internal/durable"
	"github.com/lirios/ostree-upload/internal/fault"
	"github.com/lirios/ostree-upload/internal/libostree"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/journal"
)

// publish takes a session that is verifying or publishing to published. The
// error is an *Outcome if the session is refused, libostree.ErrLocked if it
// must be tried again.
func (p *Publisher) publish(ctx context.Context, s *journal.Session) error {
	if err := p.cfg.Ready(ctx, s.ID); err != nil {
		return err
	}
	defer p.cfg.Hold()()
	v, err := openView(p.cfg)
	if err != nil {
		return err
	}
	pl, err := p.verify(v, s)
	if err != nil {
		return err
	}
	a := &apply{Publisher: p, view: v, plan: pl}
	if a.dst, err = libostree.Open(p.cfg.Repo); err != nil {
		return err
	}
	defer a.dst.Close()
	if a.src, err = libostree.Open(p.cfg.Staged); err != nil {
		return err
	}
	defer a.src.Close()
	return a.run(ctx)
}

// apply is one publish of one session.
type apply struct {
	*Publisher
	view     *view
	plan     *plan
	dst, src *libostree.Repo
	warnings []string // what the session is to know although it is published
}

func (a *apply) warn(format string, args ...any) {
	w := fmt.Sprintf(format, args...)
	a.cfg.Log.Warn(w, "session", a.plan.session.ID)
	a.warnings = append(a.warnings, w)
}

// run holds the shared lock to the end: prune, which needs the exclusive one,
// cannot take away what the closure found.
func (a *apply) run(ctx context.Context) (err error) {
	if err := fault.Point("lock the repository", func() error { return a.dst.Lock(ctx, libostree.Shared) }); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.dst.Unlock(libostree.Shared)) }()
	c, err := a.checkWhole(ctx)
	if err != nil {
		return err
	}
	id := a.plan.session.ID
	s, err := a.cfg.Journal.Move(id, journal.Publishing, nil)
	if err != nil {
		return err
	}
	a.plan.session = &s
	// The objects without the commits: libostree makes those of a transaction
	// visible in any order, and a commit must not be there before its tree.
	if err := a.importTree(c); err != nil {
		return err
	}
	if err := a.flip(ctx); err != nil {
		return err
	}
	_, err = a.cfg.Journal.Move(id, journal.Published, func(s *journal.Session) {
		s.Error, s.Detail = "", strings.Join(a.warnings, "; ")
	})
	return err
}

// checkWhole walks the closure and makes what is staged durable: what the journal
// will vouch for must not be lost to a power cut. A first sync runs beside the
// walk and has most of the work. What other sessions staged since it began, and
// the walk found, is for the second.
func (a *apply) checkWhole(ctx context.Context) (c *closure, err error) {
	var syncing errgroup.Group
	syncing.Go(func() error { return durable.SyncFS(a.cfg.Staged) })
	if c, err = a.closure(ctx); err == nil {
		err = a.checkTarget(c)
	}
	if failed := syncing.Wait(); failed != nil {
		return nil, failed // the disk cannot be trusted, whatever else was found
	}
	if err != nil {
		return nil, err
	}
	return c, durable.SyncFS(a.cfg.Staged)
}

// closure checks that every object of every commit is here, and tells where.
func (a *apply) closure(ctx context.Context) (*closure, error) {
	c := newClosure(a.view)
	if err := c.walk(ctx, a.plan.commits...); err != nil {
		return nil, err
	}
	if err := a.lackingMeta(c); err != nil {
		return nil, err
	}
	if len(c.missing) == 0 {
		return c, nil
	}
	o := outcomef(wire.MissingObjects, "%d objects are missing or bad, one of them %s", len(c.missing), c.missing[0].Object)
	return nil, a.withProblems(o, a.plan, c.missing)
}

// lackingMeta notes the detached metadata that was announced and did not
// arrive, or was rejected: no signature is to vanish.
func (a *apply) lackingMeta(c *closure) error {
	names := make([]ostree.Name, len(a.plan.path))
	for i, commit := range a.plan.path {
		names[i] = ostree.Name{Checksum: commit, Type: ostree.CommitMeta}
	}
	statuses, err := a.cfg.Journal.Statuses(a.plan.session.ID, names)
	if err != nil {
		return err
	}
	for i, st := range statuses {
		if st == journal.Missing || st == journal.Rejected {
			c.missing = append(c.missing, wire.ObjectProblem{Object: names[i].String(), Code: wire.MissingObjects, Reason: "it was announced and did not arrive"})
		}
	}
	return nil
}

// withProblems adds missing and bad objects to an outcome. Of one that is
// missing since it was rejected the journal says better what is wrong.
func (p *Publisher) withProblems(o *Outcome, pl *plan, missing []wire.ObjectProblem) error {
	names := make([]ostree.Name, len(missing))
	for i, m := range missing {
		n, err := ostree.ParseName(m.Object)
		if err != nil {
			return err
		}
		names[i] = n
	}
	statuses, err := p.cfg.Journal.Statuses(pl.session.ID, names)
	if err != nil {
		return err
	}
	for i, m := range missing {
		if statuses[i] != journal.Rejected {
			o.Problems = append(o.Problems, m)
		}
		if statuses[i] == journal.Rejected || m.Code == wire.BadObjects {
			o.Code = wire.BadObjects
		}
	}
	return o
}

func (a *apply) transaction(do func() error) error {
	if err := a.dst.Begin(); err != nil {
		return err
	}
	err := fault.Point("fill a transaction", do)
	if err == nil {
		err = fault.Point("commit a transaction", a.dst.Commit)
	}
	if err != nil {
		return errors.Join(err, a.dst.Abort())
	}
	return nil
}

// importTree brings in all objects but the commits. What can be linked needs no
// transaction, which would link it twice: its bytes are durable by now, and its
// name is there or not.
func (a *apply) importTree(c *closure) error {
	if a.view.repo.Mode() == ostree.ModeArchive {
		if err := fault.Point("link the objects", func() error { return a.linkAll(c) }); err != nil {
			return err
		}
	}
	if c.holds(importable, replaceable) {
		if err := a.transaction(func() error { return a.importAll(c) }); err != nil {
			return err
		}
	}
	return durable.SyncFS(a.cfg.Repo)
}

// importAll imports by several threads, as ostree pull does too. Each works on a
// folder of its own: others would wait for it there.
func (a *apply) importAll(c *closure) error {
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for _, folder := range c.folders {
		g.Go(func() error { return a.importFolder(folder) })
	}
	return g.Wait()
}

func (a *apply) importFolder(folder map[ostree.Name]place) error {
	for n, is := range folder {
		if is == importable {
			there, err := a.view.repo.Has(n)
			if err != nil {
				return err
			}
			if there {
				continue
			}
		} else if is != replaceable {
			continue
		}
		if err := a.dst.Import(a.src, n); err != nil {
			return err
		}
	}
	return nil
}

// lockTime is how long a publish waits for the exclusive lock at a time.
const lockTime = 10 * time.Second

// flip brings in the commits and moves the refs, under the exclusive lock.
func (a *apply) flip(ctx context.Context) (err error) {
	// A stop does not cut off what is all but done, only a lock that others hold.
	wait, cancel := context.WithTimeout(context.WithoutCancel(ctx), lockTime)
	defer cancel()
	if err := a.dst.Lock(wait, libostree.Exclusive); errors.Is(err, context.DeadlineExceeded) {
		return libostree.ErrLocked
	} else if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.dst.Unlock(libostree.Exclusive)) }()
	for _, r := range a.plan.session.Refs {
		if err := checkMoved(a.view, a.plan.session, r); err != nil {
			return err
		}
	}
	if err := a.transaction(a.importCommits); err != nil {
		return err
	}
	// Before a ref names them, whatever core.fsync says.
	if err := durable.SyncFS(a.cfg.Repo); err != nil {
		return err
	}
	if err := a.transaction(a.setRefs); err != nil {
		return err
	}
	if err := a.summary(a.dst); err != nil {
		// The refs have moved: the session does not wait for what may be wrong for
		// long, such as a full disk or a ref of others to a commit that is not there.
		a.summaryDue = true
		a.warn("the summary could not be written, which will be tried again: %v", err)
	}
	// libostree does not sync the rename of a ref.
	return durable.SyncFS(a.cfg.Repo)
}

// importCommits brings in the commits with their detached metadata, and takes
// away what says that they are deleted or incomplete.
func (a *apply) importCommits() error {
	metas, err := a.cfg.Journal.CommitMetas(a.plan.session.ID)
	if err != nil {
		return err
	}
	for _, c := range a.plan.commits {
		n := ostree.Name{Checksum: c, Type: ostree.CommitObject}
		staged, err := a.view.staged.Has(n)
		if err != nil {
			return err
		}
		if staged {
			if err := a.dst.Import(a.src, n); err != nil {
				return err
			}
		}
		if err := a.revive(c); err != nil {
			return err
		}
	}
	for c, meta := range metas {
		if !slices.Contains(a.plan.path, c) {
			a.warn("detached metadata of commit %s was left out: no ref of this session leads to it", c)
			continue
		}
		if err := a.mergeMeta(c, meta); err != nil {
			return err
		}
	}
	return nil
}

// mergeMeta adds what the session brought to a commit's detached metadata.
func (a *apply) mergeMeta(c ostree.Checksum, sent []byte) error {
	old, err := a.view.repo.Metadata(ostree.Name{Checksum: c, Type: ostree.CommitMeta})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	merged, err := ostree.MergeCommitMeta(old, sent)
	if err != nil {
		return fmt.Errorf("merge the detached metadata of %s: %w", c, err)
	}
	if bytes.Equal(merged, old) {
		return nil
	}
	return a.writeMeta(c, merged)
}

// writeMeta replaces a commit's detached metadata: not by libostree, which does
// not sync it, so that a power cut could take what was there before.
func (a *apply) writeMeta(c ostree.Checksum, meta []byte) error {
	path := filepath.Join(a.cfg.Repo, "objects", ostree.Name{Checksum: c, Type: ostree.CommitMeta}.Path())
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return durable.ReplaceFrom(filepath.Join(a.cfg.Repo, "tmp"), path, func(f *os.File) error {
		_, err := f.Write(meta)
		return errors.Join(err, f.Chmod(0o644))
	})
}

// revive removes the marks of a commit that was deleted or incomplete.
func (a *apply) revive(c ostree.Checksum) error {
	hex := c.String()
	tombstone := filepath.Join(a.cfg.Repo, "objects", hex[:2], hex[2:]+".tombstone-commit")
	if err := os.Remove(tombstone); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return fault.Point("mark a commit complete", func() error { return a.dst.MarkComplete(c) })
}

func (a *apply) setRefs() error {
	for _, r := range a.plan.session.Refs {
		c, err := ostree.ParseChecksum(r.New)
		if err != nil {
			return err
		}
		a.dst.SetRef(r.Ref, c)
	}
	return nil
}
