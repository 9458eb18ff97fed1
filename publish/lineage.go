// SPDX-License-Identifier: AGPL-3.0-or-later

package publish

import "github.com/lirios/ostree-upload/internal/ostree"

// lineage is the history of commits as far as it was read, each commit once
// however many refs lead to it. A commit has at most one parent, so histories are
// lines that run into each other. Which of two commits came first is answered by
// their places on a line: many refs on a long history cost no more than one.
type lineage struct {
	nodes map[ostree.Checksum]*node
}

// node is a commit that was read.
type node struct {
	sum    ostree.Checksum
	commit *ostree.Commit
	line   *line
	at     int // its place on the line, which grows towards the parents
}

// line is a run of commits, from a child to its parent and on.
type line struct {
	first, last *node
	into        *node // the parent of last, on another line; nil if it was not read
}

// add puts a commit that was read into the lineage. child is the one whose parent
// it is, whose line ends there; nil if the commit is a ref's new one.
func (l *lineage) add(n, child *node) {
	l.nodes[n.sum] = n
	if child != nil {
		n.line, n.at = child.line, child.at+1
		n.line.last = n
	} else {
		n.line = &line{first: n, last: n}
	}
	parent := l.nodes[n.commit.Parent]
	switch {
	case !n.commit.HasParent || parent == nil:
	case child == nil && parent.line.first == parent: // it goes before the line
		n.line, n.at = parent.line, parent.at-1
		n.line.first = n
	default:
		n.line.into = parent
	}
}

// end is the oldest commit that was read of the history of n.
func (n *node) end() *node {
	for n.line.into != nil {
		n = n.line.into
	}
	return n.line.last
}

// descends tells whether n is old or a descendant of it, as far as was read.
func (n *node) descends(old *node) bool {
	for n.line != old.line {
		if n.line.into == nil {
			return false
		}
		n = n.line.into
	}
	return old.at >= n.at
}
