// SPDX-License-Identifier: AGPL-3.0-or-later

package push

import (
	"context"
	"path"
	"slices"
	"strings"

	"github.com/lirios/ostree-upload/internal/encode"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
)

// A basis knows of which file that the server has each new file is a later version.
type basis struct {
	origins map[ostree.Checksum]origin
	folders map[string]uint32
	alike   map[string][]candidate // files that are gone or replaced, by what is left of their names
	wanting []newcomer
}

// An origin is the file that a new one is encoded against, and where the new one lies.
type origin struct {
	file, commit ostree.Checksum
	none         bool   // there is no such file
	folder       uint32 // files of one folder and extension are sent together
}

// A candidate is a file that another may be a later version of.
type candidate struct {
	path         string
	file, commit ostree.Checksum
}

// A newcomer is a new file at a path that the old commit has not.
type newcomer struct {
	path string
	file ostree.Checksum
}

// What a basis holds at most: changed files, and candidates of one name.
const (
	maxChanges = 200_000
	maxAlike   = 32
)

// findBasis compares the commits that are to be published with those that they replace,
// as far as those are here. A shallow or fresh repository has none.
func (r *run) findBasis(ctx context.Context, have map[ostree.Checksum]bool) (*basis, error) {
	b := &basis{origins: map[ostree.Checksum]origin{}, folders: map[string]uint32{}, alike: map[string][]candidate{}}
	for _, ref := range r.refs {
		before, known := r.before(ref, have)
		after, err := ostree.ParseChecksum(ref.New)
		if !known || err != nil || before == after || len(b.origins) > maxChanges {
			continue
		}
		err = r.repo.Changes(ctx, before, after, func(c ostree.Change) error {
			b.add(before, c)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	b.match(r.repo)
	return b, nil
}

// encoding is what this push uses of what the server takes. What is sent again goes in
// archive form: the server had a reason to refuse it.
func (r *run) encoding() string {
	takes := func(name string) bool { return slices.Contains(r.info.Encodings, name) }
	switch {
	case r.rounds > 0 || !takes(encode.NameZstd):
		return encode.NameArchive
	case r.opt.Encoding == encode.NameDelta && !takes(encode.NameDelta):
		return encode.NameZstd
	}
	return r.opt.Encoding
}

// basisOf is the basis of a push with an encoding; an empty one where differences are of
// no use.
func (r *run) basisOf(ctx context.Context, encoding string) (*basis, error) {
	differs := encoding == Auto || encoding == encode.NameDelta
	if !differs || !slices.Contains(r.info.Encodings, encode.NameDelta) {
		return new(basis), nil
	}
	return r.findBasis(ctx, r.have())
}

// before is the commit of the server that one ref's new commit is the most like.
func (r *run) before(ref wire.Ref, have map[ostree.Checksum]bool) (ostree.Checksum, bool) {
	if old, err := ostree.ParseChecksum(ref.Old); err == nil {
		return old, true
	}
	for c := range r.nearest(ref, have) {
		return c, true
	}
	best, commit := 0, ostree.Checksum{}
	for name, state := range r.serverRefs {
		c, err := ostree.ParseChecksum(state.Commit)
		if common := commonPrefix(name, ref.Ref); err == nil && common > best {
			best, commit = common, c
		}
	}
	return commit, best > 0
}

func commonPrefix(a, b string) (n int) {
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return n
}

// add notes a changed path.
func (b *basis) add(commit ostree.Checksum, c ostree.Change) {
	if len(b.origins) > maxChanges {
		return
	}
	if c.Old != nil {
		key := nameKey(c.Path)
		if len(b.alike[key]) < maxAlike {
			b.alike[key] = append(b.alike[key], candidate{c.Path, *c.Old, commit})
		}
	}
	if c.New == nil {
		return
	}
	if _, known := b.origins[*c.New]; known {
		return
	}
	o := origin{none: true, folder: b.folder(c.Path)}
	if c.Old != nil {
		o.file, o.commit, o.none = *c.Old, commit, false
	} else {
		b.wanting = append(b.wanting, newcomer{c.Path, *c.New})
	}
	b.origins[*c.New] = o
}

// folder numbers the folders, with the extensions in them.
func (b *basis) folder(p string) uint32 {
	key := path.Dir(p) + path.Ext(p)
	n, known := b.folders[key]
	if !known {
		n = uint32(len(b.folders))
		b.folders[key] = n
	}
	return n
}

// match finds an older version for files whose path is new.
func (b *basis) match(repo *ostree.Repo) {
	for _, n := range b.wanting {
		best, found := closest(repo, n, b.alike[nameKey(n.path)])
		if !found {
			continue
		}
		o := b.origins[n.file]
		o.file, o.commit, o.none = best.file, best.commit, false
		b.origins[n.file] = o
	}
	b.wanting, b.alike, b.folders = nil, nil, nil
}

// closest is the candidate that lies in the most similar folder and, of those, is the
// closest in size. One of quite another size is no version of the file.
func closest(repo *ostree.Repo, n newcomer, candidates []candidate) (best candidate, found bool) {
	m, err := repo.Measure(ostree.Name{Checksum: n.file, Type: ostree.File})
	if err != nil {
		return best, false
	}
	folder := withoutVersions(path.Dir(n.path))
	bestNear, bestOff := false, int64(0)
	for _, c := range candidates {
		other, err := repo.Measure(ostree.Name{Checksum: c.file, Type: ostree.File})
		if err != nil || other.Stored > 4*m.Stored || m.Stored > 4*other.Stored {
			continue
		}
		near, off := withoutVersions(path.Dir(c.path)) == folder, max(m.Stored-other.Stored, other.Stored-m.Stored)
		if !found || near && !bestNear || near == bestNear && off < bestOff {
			best, bestNear, bestOff, found = c, near, off, true
		}
	}
	return best, found
}

// nameKey is what versions of one file have in common: the name without its numbers.
func nameKey(p string) string { return withoutVersions(path.Base(p)) }

// withoutVersions puts a # for each number, with the dots, dashes and signs in it.
func withoutVersions(s string) string {
	if !strings.ContainsAny(s, "0123456789") {
		return s
	}
	var b strings.Builder
	in := false
	for i := range len(s) {
		c := s[i]
		digit := c >= '0' && c <= '9'
		if in && (digit || strings.IndexByte(".-+~_", c) >= 0 && i+1 < len(s) && s[i+1] >= '0' && s[i+1] <= '9') {
			continue
		}
		if in = digit; in {
			c = '#'
		}
		b.WriteByte(c)
	}
	return b.String()
}

// source is what the frame of a difference says of an origin.
func (o origin) source(size int64) encode.Source {
	return encode.Source{Checksum: o.file, Commit: o.commit, Size: size}
}
