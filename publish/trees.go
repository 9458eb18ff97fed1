// SPDX-License-Identifier: AGPL-3.0-or-later

package publish

import (
	"cmp"
	"context"
	"errors"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
)

// What file systems take. A tree beyond that cannot be checked out by anybody,
// and libostree, which goes down trees by recursion, crashes on very deep ones:
// so would prune and fsck of the whole repository.
const (
	maxName = 255               // bytes of a name (NAME_MAX)
	maxPath = unix.PathMax - 1  // bytes of a path from the root, without its NUL
	maxDeep = (maxPath + 1) / 2 // levels: each takes a letter and a slash
	// maxPending is how many subdirectories the directories on one path may have.
	maxPending = 1 << 20
)

// trees is what a closure remembers of the directories that it walked.
type trees struct {
	below   map[ostree.Checksum]uint16 // the longest path within each, in bytes
	path    []string                   // names from the root to where the walk is
	pending int                        // subdirectories still to be walked on that path
}

func newTrees() trees { return trees{below: make(map[ostree.Checksum]uint16)} }

// subdir is an entry of a directory, to be walked.
type subdir struct {
	name string
	tree ostree.Name
}

// tree walks a directory, once, and tells how long the longest path within is. The
// error is an *Outcome for one that no file system can hold.
func (c *closure) tree(ctx context.Context, n ostree.Name) (longest int, err error) {
	if known, ok := c.trees.below[n.Checksum]; ok {
		return int(known), nil
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	c.note(n, nowhere)
	b, err := c.read(ctx, n)
	if err != nil {
		return 0, err
	}
	var dirs []subdir
	if b != nil {
		if dirs, longest, err = c.entries(ctx, n, b); err != nil {
			return 0, err
		}
	}
	c.trees.pending += len(dirs)
	if len(c.trees.path) > maxDeep || c.trees.pending > maxPending {
		return 0, c.unfit(n, "trees nest deeper than a path can be (%d bytes)", maxPath)
	}
	for _, d := range dirs {
		c.trees.path = append(c.trees.path, d.name)
		within, err := c.tree(ctx, d.tree)
		if err != nil {
			return 0, err
		}
		c.trees.path = c.trees.path[:len(c.trees.path)-1]
		longest = max(longest, len(d.name)+1+within)
	}
	c.trees.pending -= len(dirs)
	if longest > maxPath {
		return 0, c.unfit(n, "a path in it has %d bytes, and a file system takes %d", longest, maxPath)
	}
	c.trees.below[n.Checksum] = uint16(longest)
	return longest, nil
}

// entries notes what a directory holds, and gives its subdirectories and the
// length of the longest name.
func (c *closure) entries(ctx context.Context, n ostree.Name, b []byte) (dirs []subdir, longest int, err error) {
	err = ostree.Entries(n, b, func(name []byte, child ostree.Name) error {
		if len(name) > maxName {
			return c.unfit(n, "the name %.40q… has %d bytes, and a file system takes %d", name, len(name), maxName)
		}
		longest = max(longest, len(name))
		switch child.Type {
		case ostree.DirTree:
			dirs = append(dirs, subdir{string(name), child})
		case ostree.DirMeta:
			return c.dirMeta(ctx, child)
		case ostree.File:
			if _, seen := c.folder(child)[child]; !seen {
				c.note(child, unsought)
			}
		}
		return nil
	})
	return dirs, longest, err
}

// unfit is the outcome of a session whose tree cannot be checked out, at the
// directory where the walk is.
func (c *closure) unfit(n ostree.Name, format string, args ...any) error {
	where := "/" + strings.Join(c.trees.path, "/")
	if len(where) > 200 {
		where = where[:200] + "…"
	}
	return outcomef(wire.Policy, "directory %s, object %s: "+format, append([]any{where, n}, args...)...)
}

// locate finds a path to an object in the trees of commits that were walked.
func (c *closure) locate(ctx context.Context, target ostree.Name, commits ...ostree.Checksum) (path string, err error) {
	type place struct {
		n    ostree.Name
		path string
	}
	var todo []place
	for _, sum := range commits {
		todo = append(todo, place{n: ostree.Name{Checksum: sum, Type: ostree.CommitObject}})
	}
	seen := make(map[ostree.Name]bool)
	for len(todo) > 0 && path == "" {
		at := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if err := ctx.Err(); err != nil {
			return "", err
		}
		b, err := c.metadata(at.n)
		if errors.Is(err, errAbsent) {
			continue
		}
		if err != nil {
			return "", err
		}
		err = ostree.Entries(at.n, b, func(name []byte, child ostree.Name) error {
			within := at.path
			if name != nil {
				within += "/" + string(name)
			}
			if child == target {
				path = cmp.Or(within, "/")
			}
			if child.Type == ostree.DirTree && !seen[child] {
				seen[child] = true
				todo = append(todo, place{child, within})
			}
			return nil
		})
		if err != nil {
			return "", err
		}
	}
	return cmp.Or(path, "somewhere in the tree"), nil
}
