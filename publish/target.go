// SPDX-License-Identifier: AGPL-3.0-or-later

package publish

import (
	"os"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
)

// checkTarget refuses content that the repository's mode cannot hold, before
// anything changes. An archive holds everything.
func (a *apply) checkTarget(c *closure) error {
	mode := a.target.repo.Mode()
	if mode == ostree.ModeArchive {
		return nil
	}
	if mode == ostree.ModeBare && os.Geteuid() != 0 {
		return outcomef(wire.Policy, "a bare repository can only be written by root")
	}
	for _, folder := range c.folders {
		for n, is := range folder {
			if n.Type != ostree.File || is == published {
				continue
			}
			h, err := a.target.staged.FileHeader(n)
			if err != nil {
				return err
			}
			if reason := h.StorableIn(mode); reason != nil {
				there, err := a.target.repo.Has(n)
				if err != nil {
					return err
				}
				if !there {
					return outcomef(wire.Policy, "object %s: %v", n, reason)
				}
			}
		}
	}
	return nil
}
