// SPDX-License-Identifier: AGPL-3.0-or-later

// Package fsck finds what is damaged or missing in a repository, and to which ref,
// commit and path it belongs.
//
//   - It reads each object once, content included, and changes nothing.
//   - It takes no lock, so that it can run beside a server, prune and readers: what it
//     finds is looked at once more in the end, and what went meanwhile is no finding.
//   - Memory does not grow with content or files: each folder of a tree takes some 50
//     bytes, each finding some hundred, of which there are at most maxFound.
//
// A Check is used once; its Progress may be read by another goroutine meanwhile.
package fsck

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
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

	repo *ostree.Repo

	mu   sync.Mutex
	bad  map[ostree.Name]string // why, of objects that are damaged
	more int                    // objects with faults that are not told

	walk
}

// New is the check of a repository.
func New(repo *ostree.Repo) *Check {
	return &Check{repo: repo, bad: make(map[ostree.Name]string), walk: newWalk()}
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

// verifyAll reads the objects, folder by folder, on half of the cores and in the
// background.
func (c *Check) verifyAll(ctx context.Context) error {
	if err := c.count(); err != nil {
		return err
	}
	return ostree.EachFolder(ctx, max(1, runtime.GOMAXPROCS(0)/2), c.verifySome)
}

// count counts the objects that there are now.
func (c *Check) count() error {
	total := int64(0)
	for i := range ostree.Folders {
		files, err := c.files(fmt.Sprintf("%02x", i))
		if err != nil {
			return err
		}
		total += int64(len(files))
	}
	c.Progress.Total.Store(total)
	return nil
}

// files lists the objects of one folder.
func (c *Check) files(folder string) (names []ostree.Name, err error) {
	entries, err := os.ReadDir(filepath.Join(c.repo.Path(), "objects", folder))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, e := range entries {
		name := folder + e.Name()
		if filepath.Ext(name) == ".file" {
			name += "z" // as objects are named whatever the mode
		}
		if n, err := ostree.ParseName(name); err == nil {
			names = append(names, n)
		}
	}
	return names, err
}

func (c *Check) verifySome(ctx context.Context, folders <-chan string) error {
	background.Thread()
	v := ostree.NewVerifier(0)
	v.LimitMetadata(ostree.MaxMetadata)
	v.Step(ctx.Err)
	for folder := range folders {
		files, err := c.files(folder)
		if err != nil {
			return err
		}
		for _, n := range files {
			if err := c.verify(ctx, v, n); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *Check) verify(ctx context.Context, v *ostree.Verifier, n ostree.Name) error {
	if m, err := c.repo.Measure(n); err == nil {
		c.Progress.Bytes.Add(m.Stored)
	}
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
