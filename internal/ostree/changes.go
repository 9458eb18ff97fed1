// SPDX-License-Identifier: AGPL-3.0-or-later

package ostree

import "context"

// A Change is a path that two commits have different files at, or that only one has.
type Change struct {
	Path     string // "/usr/bin/true"
	Old, New *Checksum
}

// Changes visits the files that differ between the trees of two commits. Trees that both
// have at a path are not read. Of what cannot be read nothing is visited. An error is
// visit's or ctx's.
func (r *Repo) Changes(ctx context.Context, before, after Checksum, visit func(Change) error) error {
	old, err := r.commit(before)
	if err != nil {
		return nil
	}
	now, err := r.commit(after)
	if err != nil {
		return nil
	}
	c := comparison{repo: r, visit: visit}
	todo := []twin{{path: "", old: &old.Tree, now: &now.Tree}}
	for len(todo) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		last := todo[len(todo)-1]
		more, err := c.folder(last)
		if err != nil {
			return err
		}
		todo = append(todo[:len(todo)-1], more...)
	}
	return nil
}

// A comparison is the state of one Changes.
type comparison struct {
	repo  *Repo
	visit func(Change) error
}

// A twin is a folder in two trees, or in one.
type twin struct {
	path     string
	old, now *Checksum
}

// folder compares a folder and returns those in it that are left to be compared.
func (c *comparison) folder(at twin) (folders []twin, err error) {
	old, now := c.entries(at.old), c.entries(at.now)
	for n, sum := range now.folders {
		before, has := old.folders[n]
		if has && before == sum {
			continue
		}
		t := twin{path: at.path + "/" + n, now: &sum}
		if has {
			t.old = &before
		}
		folders = append(folders, t)
	}
	for n, sum := range old.folders {
		if _, has := now.folders[n]; !has {
			folders = append(folders, twin{path: at.path + "/" + n, old: &sum})
		}
	}
	return folders, c.files(at.path, old.files, now.files)
}

// files visits the files of a folder that differ.
func (c *comparison) files(path string, old, now map[string]Checksum) error {
	for n, sum := range now {
		before, has := old[n]
		if has && before == sum {
			continue
		}
		change := Change{Path: path + "/" + n, New: &sum}
		if has {
			change.Old = &before
		}
		if err := c.visit(change); err != nil {
			return err
		}
	}
	for n, sum := range old {
		if _, has := now[n]; !has {
			if err := c.visit(Change{Path: path + "/" + n, Old: &sum}); err != nil {
				return err
			}
		}
	}
	return nil
}

// contents are the entries of a folder.
type contents struct{ files, folders map[string]Checksum }

// entries reads a dirtree; one that cannot be read is empty.
func (c *comparison) entries(tree *Checksum) contents {
	all := contents{map[string]Checksum{}, map[string]Checksum{}}
	if tree == nil {
		return all
	}
	b, err := c.repo.soundMetadata(Name{*tree, DirTree})
	if err != nil {
		return all
	}
	t, err := parseDirTree(b)
	if err != nil {
		return all
	}
	_ = t.entries(func(name []byte, n Name) error { // its error would be the function's
		switch n.Type {
		case File:
			all.files[string(name)] = n.Checksum
		case DirTree:
			all.folders[string(name)] = n.Checksum
		}
		return nil
	})
	return all
}
