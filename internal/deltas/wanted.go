// SPDX-License-Identifier: AGPL-3.0-or-later

package deltas

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/token"
)

// wanted is a delta that the rules ask for, and the refs for which they do.
type wanted struct {
	Delta
	refs []string
}

// refList names some of the refs, in the form of a session's.
func (w *wanted) refList() string {
	const most = 10
	text := strings.Join(w.refs[:min(len(w.refs), most)], ",")
	if more := len(w.refs) - most; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// wanted lists the deltas that the rules ask for as the refs are now, in the order of
// the refs' names.
func (r *run) wanted() (list []wanted, err error) {
	refs, err := r.repo.Refs()
	if err != nil {
		return nil, err
	}
	at := make(map[Delta]int)
	for _, ref := range slices.Sorted(maps.Keys(refs)) {
		from := r.from(ref)
		if len(from) == 0 {
			continue
		}
		ends, err := r.ends(refs[ref], from)
		if err != nil { // a damaged commit
			r.fail(wanted{Delta{To: refs[ref]}, []string{ref}}, err)
			continue
		}
		for _, d := range ends {
			if _, there := at[d]; !there {
				at[d] = len(list)
				list = append(list, wanted{Delta: d})
			}
			list[at[d]].refs = append(list[at[d]].refs, ref)
		}
	}
	return list, nil
}

// from lists how many commits back deltas of a ref begin.
func (r *run) from(ref string) (back []int) {
	for _, rule := range r.Rules {
		if slices.ContainsFunc(rule.Refs, func(glob string) bool { return token.MatchGlob(glob, ref) }) {
			back = append(back, rule.From...)
		}
	}
	slices.Sort(back)
	return slices.Compact(back)
}

// ends are the deltas that lead to a commit. A commit that the repository does not have
// whole is neither end of one.
func (r *run) ends(to ostree.Checksum, from []int) (list []Delta, err error) {
	if whole, err := r.repo.IsWhole(to); err != nil || !whole {
		return nil, err
	}
	line, err := r.repo.History(to, slices.Max(from))
	if err != nil {
		return nil, err
	}
	for _, back := range from {
		if back >= len(line) {
			continue // the history ends before that
		}
		if back == 0 {
			list = append(list, Delta{To: to})
			continue
		}
		whole, err := r.repo.IsWhole(line[back])
		if err != nil {
			return nil, err
		}
		if whole {
			list = append(list, Delta{From: line[back], To: to})
		}
	}
	return list, nil
}

// missing lists the wanted deltas that are not there and have not failed.
func (r *run) missing() ([]wanted, error) {
	all, err := r.wanted()
	return slices.DeleteFunc(all, func(w wanted) bool {
		_, failed := r.failed[w.Delta]
		return failed || r.isThere(w.Delta)
	}), err
}

// stillWanted tells whether one of the refs is where it was when the delta was begun.
func (r *run) stillWanted(w wanted) bool {
	return slices.ContainsFunc(w.refs, func(ref string) bool {
		at, err := r.repo.Ref(ref)
		return err != nil || at == w.To // what cannot be read is not superseded
	})
}
