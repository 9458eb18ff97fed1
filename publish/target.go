// SPDX-License-Identifier: AGPL-3.0-or-later

package publish

import (
	"os"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
)

// checkTarget refuses what the repository's disk has no room for, and content that
// its mode cannot hold, before anything changes. An archive holds everything.
func (a *apply) checkTarget(c *closure) error {
	mode := a.view.repo.Mode()
	if mode == ostree.ModeArchive {
		return a.checkRoom(c, 0) // what is linked takes none
	}
	if mode == ostree.ModeBare && os.Geteuid() != 0 {
		return outcomef(wire.Policy, "a bare repository can only be written by root")
	}
	var size int64
	for _, folder := range c.folders {
		for n, is := range folder {
			if n.Type != ostree.File || is == published {
				continue
			}
			there, err := a.view.repo.Has(n)
			if err != nil {
				return err
			}
			if there && is == importable {
				continue
			}
			h, err := a.view.staged.FileHeader(n)
			if err != nil {
				return err
			}
			if reason := h.StorableIn(mode); reason != nil && (!there || is == replaceable) {
				return outcomef(wire.Policy, "object %s: %v", n, reason)
			}
			size += int64(h.Size)
		}
	}
	return a.checkRoom(c, size)
}

// checkRoom keeps the repository's own settings for free space. libostree does so
// too, but only where it copies content, and not before it has copied some of it.
// Like libostree it lets through what brings no content.
func (a *apply) checkRoom(c *closure, need int64) error {
	space, err := a.view.repo.Space()
	if err != nil || !space.Lacks(need) {
		return err
	}
	brings, err := a.bringsFiles(c)
	if err != nil || !brings {
		return err
	}
	return outcomef(wire.InsufficientStorage, "this push takes %d bytes in the repository, which is to leave %d free (%s), but only %d are free on its disk", need, space.MinFree, space.Setting, space.Free)
}

// bringsFiles tells whether the content of any file comes from staging.
func (a *apply) bringsFiles(c *closure) (bool, error) {
	for _, folder := range c.folders {
		for n, is := range folder {
			if n.Type != ostree.File || is == published {
				continue
			}
			if there, err := a.view.repo.Has(n); !there || err != nil {
				return true, err
			}
		}
	}
	return false, nil
}
