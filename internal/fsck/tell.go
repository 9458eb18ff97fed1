// SPDX-License-Identifier: AGPL-3.0-or-later

package fsck

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/lirios/ostree-upload/internal/ostree"
)

// tell looks once more at what was found, and says what is left of it.
func (c *Check) tell(ctx context.Context) (findings, notes []string, err error) {
	findings, notes = c.unread, c.notes
	left, err := c.stillWrong(ctx)
	if err != nil {
		return nil, nil, err
	}
	stays := c.staying()
	for i, f := range c.faults {
		if left[i] && stays(f.place) {
			findings = append(findings, fmt.Sprintf("%s: object %s: %s", f.place, f.object, f.wrong))
		}
	}
	return findings, append(notes, c.unplaced()...), nil
}

// stillWrong verifies all objects with faults again: somebody may have mended them.
func (c *Check) stillWrong(ctx context.Context) (left []bool, err error) {
	left = make([]bool, len(c.faults))
	next := make(chan int)
	g, ctx := errgroup.WithContext(ctx)
	for range min(c.workers(), len(c.faults)) {
		g.Go(func() error {
			v := verifier(ctx)
			for i := range next {
				wrong, err := wrongWith(v.VerifyHeld(ctx, c.repo, c.faults[i].object))
				gone := errors.Is(err, fs.ErrNotExist)
				if left[i] = wrong != "" || gone; err != nil && !gone {
					return err
				}
			}
			return nil
		})
	}
	g.Go(func() error {
		defer close(next)
		for i := range c.faults {
			select {
			case next <- i:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	return left, g.Wait()
}

// staying returns a function that tells whether a commit is still there that a ref led to:
// somebody may have moved the ref and pruned what it needed.
func (c *Check) staying() func(place) bool {
	moved := map[string]bool{}
	gone := map[ostree.Checksum]bool{}
	return func(at place) bool {
		if _, asked := moved[at.ref]; !asked {
			is, err := c.repo.Ref(at.ref)
			// A pulled ref is not found here, and does not move by pushes.
			moved[at.ref] = err == nil && is != at.head
		}
		if !moved[at.ref] {
			return true
		}
		if _, asked := gone[at.commit]; !asked {
			_, err := c.repo.Metadata(ostree.Name{Checksum: at.commit, Type: ostree.CommitObject})
			gone[at.commit] = errors.Is(err, fs.ErrNotExist)
		}
		return !gone[at.commit]
	}
}

// unplaced are damaged objects that no ref is known to need.
func (c *Check) unplaced() (notes []string) {
	why := "no ref needs it, so that a prune removes it"
	if c.hidden {
		why = "which ref needs it cannot be told, as folders or commits above are damaged or missing"
	}
	for n, wrong := range c.bad {
		if !c.placed[n] {
			notes = append(notes, fmt.Sprintf("object %s: %s; %s", n, wrong, why))
		}
	}
	slices.Sort(notes)
	if c.more > 0 {
		notes = append(notes, fmt.Sprintf("%d more objects are damaged or missing than are told here", c.more))
	}
	return notes
}
