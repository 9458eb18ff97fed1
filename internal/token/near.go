// SPDX-License-Identifier: AGPL-3.0-or-later

package token

import (
	"cmp"
	"slices"
	"strings"
)

// maxName is how many letters a name may have.
const maxName = 64

// mostNear is how many names Near gives at most.
const mostNear = 3

// Near gives those of names that somebody may have meant who wrote name: they differ
// in two letters at most, or one is the beginning of the other. The nearest is first.
func Near(name string, names []string) (near []string) {
	if len(name) > maxName {
		return nil
	}
	name = strings.ToLower(name)
	apart := func(other string) int { return edits(name, strings.ToLower(other)) }
	for _, other := range names {
		o := strings.ToLower(other)
		if apart(other) <= 2 || name != "" && strings.HasPrefix(o, name) || strings.HasPrefix(name, o) {
			near = append(near, other)
		}
	}
	slices.SortStableFunc(near, func(a, b string) int { return cmp.Compare(apart(a), apart(b)) })
	return near[:min(len(near), mostNear)]
}

// edits is how many letters must be changed, added or taken away to make b of a.
func edits(a, b string) int {
	row := make([]int, len(b)+1) // edits from a's beginning to each beginning of b
	for k := range row {
		row[k] = k
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for k := range len(b) {
			change := diagonal
			if a[i] != b[k] {
				change++
			}
			diagonal = row[k+1]
			row[k+1] = min(change, row[k+1]+1, row[k]+1)
		}
	}
	return row[len(b)]
}
