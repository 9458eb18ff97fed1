// SPDX-License-Identifier: AGPL-3.0-or-later

package ostree

import (
	"fmt"
	"sync/atomic"
)

// A RefName is the name of a local ref, and whether it is a symlink: an alias.
type RefName struct {
	Name  string
	Alias bool

	value *atomic.Pointer[refValue] // as it was read before
}

// ListedRefs lists the names of the local refs, sorted, and reads none of them: an alias is
// listed although there may be no such ref. A folder that is a symlink is not followed:
// libostree lists no refs there either.
func (r *Repo) ListedRefs() ([]RefName, error) {
	if err := r.refresh(); err != nil {
		return nil, err
	}
	names, err := r.listed.list(r.refPath(""))
	if err != nil {
		return nil, fmt.Errorf("listing refs of repository %s: %w", r.where, err)
	}
	return names, nil
}

// Targets returns the names that aliases stand for, each with the first of its aliases.
func (r *Repo) Targets() (map[string]string, error) {
	names, err := r.ListedRefs()
	targets := map[string]string{}
	for _, n := range names {
		if !n.Alias || err != nil {
			continue
		}
		var target string
		if target, _, err = r.Alias(n.Name); targets[target] == "" {
			targets[target] = n.Name
		}
	}
	return targets, err
}
