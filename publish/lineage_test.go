// SPDX-License-Identifier: AGPL-3.0-or-later

package publish

import (
	"math/rand/v2"
	"testing"

	"github.com/lirios/ostree-upload/internal/ostree"
)

// Whatever the order in which histories are read, the lineage answers for each
// two commits what going from parent to parent does.
func TestLineage(t *testing.T) {
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 1))
		const n = 40
		parents := make([]int, n) // -1: none
		for i := range parents {
			parents[i] = -1
			if i > 0 && random.IntN(8) > 0 {
				parents[i] = max(0, i-1-random.IntN(3))
			}
		}
		sum := func(i int) ostree.Checksum { return ostree.Checksum{byte(i), 1} }
		l := lineage{make(map[ostree.Checksum]*node)}
		read := func(i int, child *node) *node {
			if known := l.nodes[sum(i)]; known != nil {
				if child != nil {
					child.line.into = known
				}
				return known
			}
			c := &ostree.Commit{HasParent: parents[i] >= 0}
			if c.HasParent {
				c.Parent = sum(parents[i])
			}
			made := &node{sum: sum(i), commit: c}
			l.add(made, child)
			return made
		}
		for range 15 {
			at := read(random.IntN(n), nil)
			for steps := random.IntN(n); steps > 0 && at.end().commit.HasParent; steps-- {
				end := at.end()
				read(int(end.commit.Parent[0]), end)
			}
		}
		for i := range n {
			for j := range n {
				a, b := l.nodes[sum(i)], l.nodes[sum(j)]
				if a == nil || b == nil {
					continue
				}
				want := false
				for at := i; at >= 0; at = parents[at] {
					if at == j {
						want = true
					}
					if l.nodes[sum(at)] == nil {
						break // not read: nobody can tell what lies behind
					}
				}
				if got := a.descends(b); got && !want {
					t.Fatalf("seed %d: %d is said to descend from %d", seed, i, j)
				} else if !got && want && a.end() == b.end() {
					t.Fatalf("seed %d: %d is said not to descend from %d", seed, i, j)
				}
			}
		}
	}
}
