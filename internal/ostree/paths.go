// SPDX-License-Identifier: AGPL-3.0-or-later

package ostree

import (
	"context"
	"errors"
)

// errFound ends a search.
var errFound = errors.New("found")

// Paths tells where in a commit's tree objects are, one path for each that is
// there: "/usr/bin/true", "/" for the root. A file, its folder's dirtree and its
// dirmeta each have that path. What cannot be read of the tree is passed over.
func (r *Repo) Paths(ctx context.Context, commit Checksum, names ...Name) map[Name]string {
	c, err := r.commit(commit)
	if err != nil {
		return nil
	}
	s := search{repo: r, seen: map[Checksum]bool{}, paths: map[Name]string{}, wanted: map[Name]bool{}}
	for _, n := range names {
		s.wanted[n] = true
	}
	if s.found(Name{c.Meta, DirMeta}, "/") != nil || s.found(Name{c.Tree, DirTree}, "/") != nil {
		return s.paths
	}
	s.todo = []place{{c.Tree, ""}}
	for len(s.todo) > 0 && ctx.Err() == nil {
		last := s.todo[len(s.todo)-1]
		s.todo = s.todo[:len(s.todo)-1]
		if s.look(last) != nil {
			break
		}
	}
	return s.paths
}

// A search looks for objects in a tree, each dirtree once.
type search struct {
	repo   *Repo
	todo   []place
	seen   map[Checksum]bool
	wanted map[Name]bool
	paths  map[Name]string
}

// A place is a dirtree and its path, "" for the root.
type place struct {
	tree Checksum
	path string
}

// look looks at the entries of one dirtree; an error ends the search.
func (s *search) look(at place) error {
	b, err := s.repo.Metadata(Name{at.tree, DirTree})
	if err != nil || s.seen[at.tree] {
		return nil
	}
	s.seen[at.tree] = true
	t, err := parseDirTree(b)
	if err != nil {
		return nil
	}
	return t.entries(func(name []byte, n Name) error {
		path := at.path + "/" + string(name)
		if n.Type == DirTree && !s.seen[n.Checksum] {
			s.todo = append(s.todo, place{n.Checksum, path})
		}
		return s.found(n, path)
	})
}

// found notes an object that was looked for; errFound if it was the last one.
func (s *search) found(n Name, path string) error {
	if s.wanted[n] {
		s.paths[n] = path
		delete(s.wanted, n)
	}
	if len(s.wanted) == 0 {
		return errFound
	}
	return nil
}
