// SPDX-License-Identifier: AGPL-3.0-or-later

package publish

import (
	"context"
	"crypto/sha256"
	"errors"
	"io/fs"
	"runtime"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
)

// closure walks from commits to every object that they need and sorts those
// by where they are. It looks at each object itself: that a dirtree is there
// proves nothing about its children, and that a repository has an object nothing
// about its bytes.
//
// Memory grows by about 60 bytes an object, and what the directories on one path
// hold (maxPending).
type closure struct {
	*view
	// good tells whether a staged object is there and is what its name says.
	good    func(context.Context, ostree.Name) (bool, error)
	repair  bool                       // what is staged replaces what the repository has
	bad     map[ostree.Name]bool       // what the repository has of these does not count
	folders [256]map[ostree.Name]place // all but the commits, by the folder of objects/
	trees   trees

	mu      sync.Mutex // guards missing while files are looked for
	missing []wire.ObjectProblem
}

// place is what is to be done with an object.
type place uint8

const (
	unsought    place = iota // a file that is needed, not looked for yet
	nowhere                  // noted as missing
	published                // nothing: the repository has it
	importable               // bring it in from staging, unless the repository has it
	replaceable              // the same, over a damaged copy in the repository
)

func newClosure(v *view, good func(context.Context, ostree.Name) (bool, error)) *closure {
	c := &closure{view: v, good: good, trees: newTrees()}
	for i := range c.folders {
		c.folders[i] = make(map[ostree.Name]place)
	}
	return c
}

// folder gives those objects that lie in the same folder as n.
func (c *closure) folder(n ostree.Name) map[ostree.Name]place { return c.folders[n.Checksum[0]] }

// holds tells whether any object is at one of the places.
func (c *closure) holds(places ...place) bool {
	for _, folder := range c.folders {
		for _, is := range folder {
			if slices.Contains(places, is) {
				return true
			}
		}
	}
	return false
}

// walk walks the objects of some commits, without their parents, and then looks
// for each file. What is missing or damaged is noted, in the order of names; an
// error is a failure to read, or an *Outcome for a tree that nobody could check
// out.
func (c *closure) walk(ctx context.Context, commits ...ostree.Checksum) error {
	for _, commit := range commits {
		if err := c.commit(ctx, commit); err != nil {
			return err
		}
	}
	if err := c.seek(ctx); err != nil {
		return err
	}
	slices.SortFunc(c.missing, func(a, b wire.ObjectProblem) int { return strings.Compare(a.Object, b.Object) })
	return nil
}

// commit walks the trees of one commit and notes which files it needs.
func (c *closure) commit(ctx context.Context, commit ostree.Checksum) error {
	n := ostree.Name{Checksum: commit, Type: ostree.CommitObject}
	b, err := c.read(ctx, n)
	if err != nil || b == nil { // noted as missing
		return err
	}
	return ostree.Children(n, b, func(child ostree.Name) error {
		if child.Type == ostree.DirTree {
			_, err := c.tree(ctx, child)
			return err
		}
		return c.dirMeta(ctx, child)
	})
}

func (c *closure) dirMeta(ctx context.Context, n ostree.Name) error {
	if _, seen := c.folder(n)[n]; seen {
		return nil
	}
	c.note(n, nowhere)
	_, err := c.read(ctx, n)
	return err
}

// seek looks for the files, of which there are many, on all cores.
func (c *closure) seek(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for _, folder := range c.folders {
		g.Go(func() error {
			for n, is := range folder {
				if is != unsought {
					continue
				}
				if err := c.file(ctx, n); err != nil {
					return err
				}
			}
			return ctx.Err()
		})
	}
	return g.Wait()
}

// read returns a metadata object, or nil if there is no good copy of it. One
// that is damaged in the repository is replaced by a staged one: importing it
// links it over the other.
func (c *closure) read(ctx context.Context, n ostree.Name) ([]byte, error) {
	b, err := c.repo.Metadata(n)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	there := err == nil
	if there && damaged(n, b) == "" {
		c.note(n, published)
		return b, nil
	}
	staged, err := c.readStaged(ctx, n)
	switch {
	case err != nil:
		return nil, err
	case staged != nil && there:
		c.note(n, replaceable)
	case staged != nil:
		c.note(n, importable)
	case there:
		c.missing = append(c.missing, wire.ObjectProblem{Object: n.String(), Code: wire.BadObjects, Reason: damaged(n, b)})
	default:
		c.lacks(n)
	}
	return staged, nil
}

// readStaged returns a staged metadata object, or nil if there is none that is
// what its name says.
func (c *closure) readStaged(ctx context.Context, n ostree.Name) ([]byte, error) {
	good, err := c.isStaged(ctx, n)
	if err != nil || !good {
		return nil, err
	}
	b, err := c.staged.Metadata(n)
	if errors.Is(err, fs.ErrNotExist) || err == nil && damaged(n, b) != "" {
		return nil, nil
	}
	return b, err
}

// isStaged tells whether a good copy of an object is staged.
func (c *closure) isStaged(ctx context.Context, n ostree.Name) (bool, error) {
	if c.staged == nil {
		return false, nil
	}
	return c.good(ctx, n)
}

// note notes where an object is. Commits come in by themselves, later.
func (c *closure) note(n ostree.Name, p place) {
	if n.Type != ostree.CommitObject {
		c.folder(n)[n] = p
	}
}

// damaged tells what is wrong with the bytes of a metadata object, which
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

// file notes where a content object is. Most are staged; whether the repository
// has it as well turns out when it is brought in, unless a repair is to replace that.
func (c *closure) file(ctx context.Context, n ostree.Name) error {
	staged, err := c.isStaged(ctx, n)
	if err != nil {
		return err
	}
	if staged && !c.repair {
		c.note(n, importable)
		return nil
	}
	there, err := c.repo.Has(n)
	switch {
	case err != nil:
		return err
	case staged && there:
		c.note(n, replaceable)
	case staged:
		c.note(n, importable)
	case there && !c.bad[n]:
		c.note(n, published)
	default:
		c.note(n, nowhere)
		c.lacks(n)
	}
	return nil
}

func (c *closure) lacks(n ostree.Name) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.missing = append(c.missing, lacking(n))
}

func lacking(n ostree.Name) wire.ObjectProblem {
	return wire.ObjectProblem{Object: n.String(), Code: wire.MissingObjects, Reason: "neither staged nor in the repository"}
}
