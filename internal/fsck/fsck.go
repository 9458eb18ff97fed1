// SPDX-License-Identifier: AGPL-3.0-or-later

// Package fsck finds what is damaged or missing in a repository, and to which ref,
// commit and path it belongs.
//
//   - It reads each object once, content included, and changes nothing.
//   - It takes no lock, so that it can run beside a server, prune and readers: what it
//     finds is looked at once more in the end, and what went meanwhile is no finding.
//   - Memory does not grow with content or files: each folder of a tree takes some 50
//     bytes, each finding some hundred, of which there are at most maxFound.
//   - The repository is on the disk, or where else a Store can list it: the walk is the
//     same, by several readers at a time where each waits for answers.
//
// A Check is used once; its Progress may be read by another goroutine meanwhile.
package fsck

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/lirios/ostree-upload/internal/background"
	"github.com/lirios/ostree-upload/internal/ostree"
)

// maxFound is how many damaged objects are remembered, and how many findings told.
const maxFound = 100_000

// Progress is how far a check is.
type Progress struct {
	Total   atomic.Int64 // objects that there are; 0 while they are counted
	Objects atomic.Int64 // verified
	Bytes   atomic.Int64 // of those, as stored
}

// A Check is the check of one repository.
type Check struct {
	Progress Progress

	repo  *ostree.Repo
	store Store

	mu   sync.Mutex             // guards what is below, and the walk
	bad  map[ostree.Name]string // why, of objects that are damaged
	more int                    // objects with faults that are not told

	walk
}

// New is the check of a repository, whose objects are in store.
func New(repo *ostree.Repo, store Store) *Check {
	return &Check{repo: repo, store: store, bad: make(map[ostree.Name]string), walk: newWalk()}
}

// Run checks everything. Findings are faults of what refs need, notes are not.
func (c *Check) Run(ctx context.Context) (findings, notes []string, err error) {
	if err := c.verifyAll(ctx); err != nil {
		return nil, nil, err
	}
	if err := c.refs(ctx); err != nil {
		return nil, nil, err
	}
	return c.tell(ctx)
}

// workers is how many objects are verified at a time: where none waits for answers, by
// half of the cores.
func (c *Check) workers() int {
	return cmp.Or(c.store.Requests(), max(1, runtime.GOMAXPROCS(0)/2))
}

// verifyAll counts and then reads the objects, folder by folder, in the background.
func (c *Check) verifyAll(ctx context.Context) error {
	var total atomic.Int64
	err := ostree.EachFolder(ctx, c.workers(), func(ctx context.Context, folders <-chan string) error {
		return c.list(ctx, folders, func(ostree.Name, func() int64) error {
			total.Add(1)
			return nil
		})
	})
	if err != nil {
		return err
	}
	c.Progress.Total.Store(total.Load())
	return ostree.EachFolder(ctx, c.workers(), c.verifySome)
}

// list visits the objects of some folders.
func (c *Check) list(ctx context.Context, folders <-chan string, visit func(n ostree.Name, size func() int64) error) error {
	for folder := range folders {
		if err := c.store.List(ctx, folder, visit); err != nil {
			return err
		}
	}
	return nil
}

// verifier is one for a goroutine of its own.
func verifier(ctx context.Context) *ostree.Verifier {
	v := ostree.NewVerifier(0)
	v.LimitMetadata(ostree.MaxMetadata)
	v.Step(ctx.Err)
	return v
}

func (c *Check) verifySome(ctx context.Context, folders <-chan string) error {
	background.Thread()
	v := verifier(ctx)
	return c.list(ctx, folders, func(n ostree.Name, size func() int64) error {
		c.Progress.Bytes.Add(size())
		return c.verify(ctx, v, n)
	})
}

func (c *Check) verify(ctx context.Context, v *ostree.Verifier, n ostree.Name) error {
	wrong, err := wrongWith(v.VerifyHeld(ctx, c.repo, n))
	if errors.Is(err, fs.ErrNotExist) { // it has gone since the folder was listed
		return nil
	}
	if wrong != "" {
		c.note(n, wrong)
	}
	c.Progress.Objects.Add(1)
	return err
}

// wrongWith tells what is wrong with an object, of an error of verifying it.
func wrongWith(err error) (wrong string, failed error) {
	var bad *ostree.BadObjectError
	var unreadable *ostree.UnreadableError
	switch {
	case errors.As(err, &bad):
		return bad.Reason, nil
	case errors.As(err, &unreadable):
		return unreadable.Reason, nil
	}
	return "", err
}

func (c *Check) note(n ostree.Name, wrong string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.bad) >= maxFound {
		c.more++
		return
	}
	c.bad[n] = wrong
}
