// SPDX-License-Identifier: AGPL-3.0-or-later

package publish

import (
	"context"
	"crypto/sha256"
	"errors"
	"io/fs"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
)

// closure walks from commits to every object that they need and sorts those
// by where they are. It looks at each object itself: that a dirtree is there
// proves nothing about its children, and that the repository has a metadata
// object nothing about its bytes.
//
// Memory grows by about 40 bytes an object.
type closure struct {
	*view
	seen    map[ostree.Name]struct{}
	imports []ostree.Name // to bring into the repository, without the commits
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
		b, err := c.read(n)
		if err != nil {
			return err
		}
		if b == nil {
			continue // noted as missing
		}
		err = ostree.Children(n, b, func(child ostree.Name) error {
			if _, ok := c.seen[child]; ok {
				return nil
			}
			c.seen[child] = struct{}{}
			if child.Type == ostree.File {
				return c.file(child)
			}
			todo = append(todo, child)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// read returns a metadata object, or nil if there is no good copy of it. One
// that is damaged in the repository is replaced by a staged one, which was
// verified: importing it links it over the other.
func (c *closure) read(n ostree.Name) ([]byte, error) {
	b, err := c.repo.Metadata(n)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	there := err == nil
	if there && damaged(n, b) == "" {
		return b, nil
	}
	staged, err := c.staged.Metadata(n)
	if err == nil {
		if n.Type != ostree.CommitObject { // those come in later
			c.imports = append(c.imports, n)
		}
		return staged, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if there {
		c.missing = append(c.missing, wire.ObjectProblem{Object: n.String(), Code: wire.BadObjects, Reason: damaged(n, b)})
	} else {
		c.lacks(n)
	}
	return nil, nil
}

// damaged tells what is wrong with a metadata object of the repository, which
// libostree or a disk may have damaged.
func damaged(n ostree.Name, b []byte) string {
	if sha256.Sum256(b) != n.Checksum {
		return "the copy in the server's repository does not match its checksum"
	}
	if err := ostree.Children(n, b, func(ostree.Name) error { return nil }); err != nil {
		return err.Error()
	}
	return ""
}

// file notes where a content object is.
func (c *closure) file(n ostree.Name) error {
	there, err := c.repo.Has(n)
	if err != nil || there {
		return err
	}
	if there, err = c.staged.Has(n); err != nil {
		return err
	}
	if there {
		c.imports = append(c.imports, n)
	} else {
		c.lacks(n)
	}
	return nil
}

func (c *closure) lacks(n ostree.Name) { c.missing = append(c.missing, lacking(n)) }

func lacking(n ostree.Name) wire.ObjectProblem {
	return wire.ObjectProblem{Object: n.String(), Code: wire.MissingObjects, Reason: "neither staged nor in the repository"}
}
