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
// proves nothing about its children, and that the repository has a metadata
// object nothing about its bytes.
//
// Memory grows by about 60 bytes an object.
type closure struct {
	*view
	folders [256]map[ostree.Name]place // all but the commits, by the folder of objects/

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

func newClosure(v *view) *closure {
	c := &closure{view: v}
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
// error is a failure to read.
func (c *closure) walk(ctx context.Context, commits ...ostree.Checksum) error {
	for _, commit := range commits {
		if err := c.add(ctx, commit); err != nil {
			return err
		}
	}
	if err := c.seek(ctx); err != nil {
		return err
	}
	slices.SortFunc(c.missing, func(a, b wire.ObjectProblem) int { return strings.Compare(a.Object, b.Object) })
	return nil
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
				if err := c.file(n); err != nil {
					return err
				}
			}
			return ctx.Err()
		})
	}
	return g.Wait()
}

// add walks the trees of one commit and notes which files it needs.
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
			if _, ok := c.folder(child)[child]; ok {
				return nil
			}
			if child.Type == ostree.File {
				c.found(child, unsought)
				return nil
			}
			c.found(child, nowhere)
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
		c.found(n, published)
		return b, nil
	}
	staged, err := c.staged.Metadata(n)
	if err == nil && there {
		c.found(n, replaceable)
		return staged, nil
	}
	if err == nil {
		c.found(n, importable)
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

// found notes where an object is. Commits come in by themselves, later.
func (c *closure) found(n ostree.Name, p place) {
	if n.Type != ostree.CommitObject {
		c.folder(n)[n] = p
	}
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

// file notes where a content object is. Most are staged; whether the repository
// has it as well turns out when it is brought in.
func (c *closure) file(n ostree.Name) error {
	staged, err := c.staged.Has(n)
	if err != nil {
		return err
	}
	if staged {
		c.found(n, importable)
		return nil
	}
	there, err := c.repo.Has(n)
	if err != nil {
		return err
	}
	if there {
		c.found(n, published)
		return nil
	}
	c.found(n, nowhere)
	c.lacks(n)
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
