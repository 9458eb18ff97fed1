// SPDX-License-Identifier: AGPL-3.0-or-later

package publish

import (
	"context"
	"crypto/sha256"
	"errors"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
)

// closure walks from commits to every object that they need and sorts those
// by where they are. It looks at each object itself: that a dirtree is there
// proves nothing about its children.
//
// Memory grows by about 40 bytes an object.
type closure struct {
	*view
	seen    map[ostree.Name]struct{}
	imports []ostree.Name // staged, not in the repository, without the commits
	missing []wire.ObjectProblem
}

func newClosure(v *view) *closure {
	return &closure{view: v, seen: make(map[ostree.Name]struct{})}
}

// add walks the objects of one commit, without its parents. What is missing
// or damaged is noted; an error is a failure to read.
func (c *closure) add(ctx context.Context, commit ostree.Checksum) error {
	todo := []ostree.Name{{Checksum: commit, Type: ostree.CommitObject}}
	for len(todo) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		b, err := c.metadata(n)
		if errors.Is(err, errAbsent) {
			c.lacks(n)
			continue
		}
		if err != nil {
			return err
		}
		if reason := damaged(n, b); reason != "" {
			c.missing = append(c.missing, wire.ObjectProblem{Object: n.String(), Code: wire.BadObjects, Reason: reason})
			continue
		}
		err = ostree.Children(n, b, func(child ostree.Name) error {
			new, err := c.visit(child)
			if new && child.Type == ostree.DirTree {
				todo = append(todo, child)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// damaged tells what is wrong with a metadata object of the repository, which
// libostree or a disk may have damaged. Staged ones were verified.
func damaged(n ostree.Name, b []byte) string {
	if sha256.Sum256(b) != n.Checksum {
		return "the copy in the repository does not match its checksum"
	}
	if err := ostree.Children(n, b, func(ostree.Name) error { return nil }); err != nil {
		return err.Error()
	}
	return ""
}

// visit notes where an object is; new is false for one that was seen before.
func (c *closure) visit(n ostree.Name) (new bool, err error) {
	if _, ok := c.seen[n]; ok {
		return false, nil
	}
	c.seen[n] = struct{}{}
	there, err := c.repo.Has(n)
	if err != nil || there {
		return true, err
	}
	there, err = c.staged.Has(n)
	switch {
	case err != nil:
		return true, err
	case there:
		c.imports = append(c.imports, n)
	default:
		c.lacks(n)
		return false, nil
	}
	return true, nil
}

func (c *closure) lacks(n ostree.Name) { c.missing = append(c.missing, lacking(n)) }

func lacking(n ostree.Name) wire.ObjectProblem {
	return wire.ObjectProblem{Object: n.String(), Code: wire.MissingObjects, Reason: "neither staged nor in the repository"}
}
