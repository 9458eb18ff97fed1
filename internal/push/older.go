// SPDX-License-Identifier: AGPL-3.0-or-later

package push

import (
	"context"
	"maps"
	"slices"

	"github.com/lirios/ostree-upload/internal/ostree"
)

// older lists the ancestors of a commit that are here, newest first, up to one of known,
// of which the history is known.
func (r *run) older(commit ostree.Checksum, known map[ostree.Name]bool) (names []ostree.Name, err error) {
	for {
		parent, err := r.repo.Parent(commit)
		if err != nil || parent == nil {
			return names, err
		}
		n := ostree.Name{Checksum: *parent, Type: ostree.CommitObject}
		if known[n] {
			return names, nil
		}
		if has, err := r.repo.Has(n); err != nil || !has || r.repo.CheckWhole(*parent) != nil {
			return names, err
		}
		names, commit = append(names, n), *parent
	}
}

// addsHistory reports whether --history may bring anything to a commit that the
// server's ref names: an ancestor that it lacks, or an ancestor's detached
// metadata, which cannot be compared from here.
func (r *run) addsHistory(ctx context.Context, commit ostree.Checksum) (bool, error) {
	older, err := r.older(commit, nil)
	if err != nil {
		return false, err
	}
	for _, n := range older {
		if has, err := r.repo.Has(ostree.Name{Checksum: n.Checksum, Type: ostree.CommitMeta}); has || err != nil {
			return has, err
		}
	}
	lacking, known, err := r.lacking(ctx, older)
	return len(lacking) > 0 || !known && len(older) > 0, err
}

// olderOf is of how many commits countOlder follows the history, as there may be tens of
// thousands of refs.
const olderOf = 1000

// countOlder counts, where there is nothing to do, the ancestors that are here and
// that the server lacks: an earlier push left them out.
func (r *run) countOlder(ctx context.Context, locals map[string]local) error {
	all, heads := map[ostree.Name]bool{}, map[ostree.Checksum]bool{}
	for _, l := range locals {
		if heads[l.commit] || len(heads) == olderOf {
			continue
		}
		heads[l.commit] = true
		older, err := r.older(l.commit, all)
		if err != nil {
			return nil // a commit that cannot be read concerns nobody now
		}
		for _, n := range older {
			all[n] = true
		}
	}
	lacking, _, err := r.lacking(ctx, slices.Collect(maps.Keys(all)))
	r.olderAbsent = int64(len(lacking))
	return err
}
