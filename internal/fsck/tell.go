// SPDX-License-Identifier: AGPL-3.0-or-later

package fsck

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/lirios/ostree-upload/internal/ostree"
)

// tell looks once more at what was found, and says what is left of it.
func (c *Check) tell(ctx context.Context) (findings, notes []string, err error) {
	findings, notes = c.unread, c.notes
	v := ostree.NewVerifier(0)
	v.LimitMetadata(ostree.MaxMetadata)
	v.Step(ctx.Err)
	for _, f := range c.faults {
		still, err := c.still(ctx, v, f)
		if err != nil {
			return nil, nil, err
		}
		if still {
			findings = append(findings, fmt.Sprintf("%s: object %s: %s", f.place, f.object, f.wrong))
		}
	}
	return findings, append(notes, c.unplaced()...), nil
}

// still tells whether a fault is one now: somebody may have mended it, or moved the ref
// and pruned what it needed.
func (c *Check) still(ctx context.Context, v *ostree.Verifier, f fault) (bool, error) {
	err := v.VerifyHeld(ctx, c.repo, f.object)
	if err == nil {
		return false, nil
	}
	if wrong, err := wrongWith(err); wrong == "" && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if is, err := c.repo.Ref(f.ref); err != nil || is == f.head {
		return true, nil // a pulled ref is not found here, and does not move by pushes
	}
	return c.repo.Has(ostree.Name{Checksum: f.commit, Type: ostree.CommitObject})
}

// unplaced are damaged objects that no ref is known to need.
func (c *Check) unplaced() (notes []string) {
	why := "no ref needs it, so that ostree prune removes it"
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
