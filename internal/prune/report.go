// SPDX-License-Identifier: AGPL-3.0-or-later

package prune

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"slices"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
)

// count notes for each ref what it keeps and loses, and tells what the refs reach. Each
// commit is looked at once, however many refs reach it.
func (r *run) count(refs map[string]ref) (reached map[ostree.Checksum]bool, err error) {
	reached = make(map[ostree.Checksum]bool)
	keeps := make(map[ostree.Checksum]int) // how many commits stay from each one on
	for _, name := range slices.Sorted(maps.Keys(refs)) {
		if refs[name].only {
			continue
		}
		line, end, err := r.line(refs[name].tip, reached)
		if err != nil {
			return nil, err
		}
		removes, n := 0, keeps[end]
		for _, c := range slices.Backward(line) {
			if _, stays := r.stay[c]; stays {
				n++
			} else {
				removes++
			}
			keeps[c] = n
		}
		if removes == 0 {
			r.report.Whole++
			continue
		}
		r.report.Refs = append(r.report.Refs, wire.PrunedRef{Ref: name, Keeps: n, Removes: removes})
	}
	for _, c := range r.gone() {
		if !reached[c] {
			r.report.Unreached++
		}
	}
	return reached, nil
}

// line is the history of a commit, from child to parent, as far as it is here and was
// not reached before, and the commit where it ends.
func (r *run) line(c ostree.Checksum, reached map[ostree.Checksum]bool) (line []ostree.Checksum, end ostree.Checksum, err error) {
	for r.here[c] && !reached[c] {
		reached[c] = true
		line = append(line, c)
		parent, there, err := r.history.parent(c)
		if err != nil && !isBad(err) {
			return nil, c, err
		}
		if !there {
			break
		}
		c = parent
	}
	return line, c, nil
}

// foresee counts what would be removed.
func (r *run) foresee(ctx context.Context) (*wire.Pruned, error) {
	r.report.DryRun = true
	for _, c := range r.going {
		size, err := r.size(ostree.Name{Checksum: c, Type: ostree.CommitObject})
		if err != nil {
			return nil, err
		}
		r.report.Commits++
		r.report.Bytes += size
	}
	for some := range slices.Chunk(slices.Collect(maps.Keys(r.rest)), chunk) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		free, err := r.unneeded(some)
		if err != nil {
			return nil, err
		}
		for _, n := range free {
			size, err := r.size(n)
			if err != nil {
				return nil, err
			}
			r.report.Objects++
			r.report.Bytes += size
		}
	}
	if r.sizes != nil { // nobody makes static deltas in a bucket
		return r.report, nil
	}
	deltas, err := r.deltas()
	r.report.Deltas = deltas
	return r.report, err
}

// size is that of an object as it is stored, 0 if it is gone.
func (r *run) size(n ostree.Name) (int64, error) {
	if r.sizes != nil {
		return r.sizes[n], nil
	}
	info, err := r.repo.Stored(n)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}
