// SPDX-License-Identifier: AGPL-3.0-or-later

package store

import (
	"slices"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/test/must"
)

// The line of a ref's versions is found, and everything that is none.
func TestOneLine(t *testing.T) {
	for _, c := range []struct{ about, versions, moves, head, fault string }{
		{"nothing", "", "", "", ""},
		{"a line", "a b c", "one:-a two:ab one:bc", "c", ""},
		{"in any order", "c a b", "one:bc one:-a two:ab", "c", ""},
		{"told by two", "a b", "one:-a one:ab two:ab", "b", ""},
		{"a fork", "a b c", "one:-a one:ab two:ac", "c", "both one and two"},
		{"two beginnings", "a b", "one:-a two:-b", "b", "both one and two"},
		{"a version of nobody", "a b", "one:-a", "b", "nobody moved it"},
		{"a hole", "a b c", "one:-a two:bc", "c", "nobody moved it"},
		{"a move without a version", "a", "one:-a two:ab", "a", "never was"},
		{"back", "a b a", "one:-a two:ab two:ba", "a", "twice"},
		{"a ring beside it", "a b c", "one:-a one:bc one:cb", "a", "nobody moved it"},
		{"another head", "a b", "one:-a two:ab", "a", "lead to b"},
	} {
		var moves []Move
		for _, text := range strings.Fields(c.moves) {
			who, move, _ := strings.Cut(text, ":")
			moves = append(moves, Move{who, strings.Trim(move[:1], "-"), move[1:]})
		}
		err := OneLine(strings.Fields(c.versions), moves, c.head)
		if (err == nil) != (c.fault == "") || err != nil && !strings.Contains(err.Error(), c.fault) {
			t.Errorf("%s: %v", c.about, err)
		}
	}
}

// A bucket keeps all that an object ever was.
func TestVersions(t *testing.T) {
	t.Parallel()
	g := New(t)
	g.Bucket(t, "repo")
	must.OK(t, g.KeepVersions(t.Context(), "repo"))
	etag, _ := put(t, g.Client(), "ref", "one\n", isNew)
	put(t, g.Client(), "ref", "two\n", isStill(etag))
	put(t, g.Client(), "ref", "never\n", isStill(etag))
	put(t, g.Client(), "refs", "three\n", isNew)
	all, err := g.Versions(t.Context(), "repo", "ref")
	must.OK(t, err)
	slices.Sort(all)
	if !slices.Equal(all, []string{"one", "two"}) {
		t.Errorf("%q", all)
	}
}
