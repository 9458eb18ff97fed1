// SPDX-License-Identifier: AGPL-3.0-or-later

package prune

import (
	"fmt"
	"io/fs"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/units"
	"github.com/lirios/ostree-upload/test/must"
)

const day = 24 * time.Hour

var now = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

// line is a history of commits named by a letter and their age in days, newest first:
// a0 is the tip of a line of a.
type line struct {
	name string
	ages []int
}

func sum(name string, i int) (c ostree.Checksum) {
	copy(c[:], fmt.Sprint(name, i))
	return c
}

// historyOf has some lines.
func historyOf(lines ...line) *history {
	commits := make(map[ostree.Checksum]*ostree.Commit)
	for _, l := range lines {
		for i, age := range l.ages {
			c := &ostree.Commit{Time: uint64(now.Add(-time.Duration(age) * day).Unix())}
			c.Parent, c.HasParent = sum(l.name, i+1), true // that of the last one is not here
			commits[sum(l.name, i)] = c
		}
	}
	return newHistory(func(c ostree.Checksum) (*ostree.Commit, error) {
		if commit := commits[c]; commit != nil {
			return commit, nil
		}
		return nil, fmt.Errorf("%s: %w", c, fs.ErrNotExist)
	})
}

// TestKept pins which commits the entries of keep let stay.
func TestKept(t *testing.T) {
	h := historyOf(
		line{"a", []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}},
		line{"b", []int{50, 60, 70}},
		line{"c", []int{0, 9, 1, 1}},          // made out of order
		line{"d", []int{0, -400, 1, 2}},       // one is of the next year
		line{"e", []int{0, 365 * 1000, 1, 2}}, // and one from before there were clocks
	)
	tip := func(name string) ref { return ref{tip: sum(name, 0)} }
	keep := func(depth int, younger time.Duration, globs ...string) config.Keep {
		return config.Keep{Refs: globs, Depth: depth, YoungerThan: units.Duration(younger)}
	}
	for _, tt := range []struct {
		name  string
		refs  map[string]ref
		rules []config.Keep
		want  string // how many of each line
	}{
		{"no entry keeps all", map[string]ref{"os/a": tip("a")}, nil, "a10"},
		{"no entry of this ref", map[string]ref{"os/a": tip("a")}, []config.Keep{keep(0, 0, "app/**")}, "a10"},
		{"the tip alone", map[string]ref{"os/a": tip("a")}, []config.Keep{keep(0, 0, "**")}, "a1"},
		{"a depth", map[string]ref{"os/a": tip("a")}, []config.Keep{keep(3, 0, "**")}, "a4"},
		{"more than there is", map[string]ref{"os/a": tip("a")}, []config.Keep{keep(100, 0, "**")}, "a10"},
		{"all", map[string]ref{"os/a": tip("a")}, []config.Keep{keep(config.KeepAll, 0, "**")}, "a10"},
		{"an age", map[string]ref{"os/a": tip("a")}, []config.Keep{keep(0, 4*day, "**")}, "a5"},
		{"the larger of both, age", map[string]ref{"os/a": tip("a")}, []config.Keep{keep(2, 4*day, "**")}, "a5"},
		{"the larger of both, depth", map[string]ref{"os/a": tip("a")}, []config.Keep{keep(7, 4*day, "**")}, "a8"},
		{"a tip is never too old", map[string]ref{"os/b": tip("b")}, []config.Keep{keep(0, day, "**")}, "b1"},
		{"what is behind an old one goes", map[string]ref{"os/c": tip("c")}, []config.Keep{keep(0, 4*day, "**")}, "c1"},
		{"but counts by depth", map[string]ref{"os/c": tip("c")}, []config.Keep{keep(1, 4*day, "**")}, "c4"},
		{"a time in the future keeps nothing", map[string]ref{"os/d": tip("d")}, []config.Keep{keep(0, 4*day, "**")}, "d1"},
		{"nor does one long ago", map[string]ref{"os/e": tip("e")}, []config.Keep{keep(0, 65535*day, "**")}, "e1"},
		{"the first entry counts", map[string]ref{"os/a": tip("a"), "os/b": tip("b")},
			[]config.Keep{keep(1, 0, "os/b"), keep(5, 0, "**"), keep(config.KeepAll, 0, "os/*")}, "a6 b2"},
		{"two refs on one line", map[string]ref{"os/a": tip("a"), "old/a": {tip: sum("a", 6)}},
			[]config.Keep{keep(1, 0, "os/*"), keep(2, 0, "old/*")}, "a2+3@6"},
		{"an older tip of the same rule", map[string]ref{"os/a": tip("a"), "os/old": {tip: sum("a", 2)}},
			[]config.Keep{keep(3, 0, "os/*")}, "a6"},
		{"an alias keeps its commit", map[string]ref{"os/a": {tip: sum("a", 3), only: true}}, nil, "1@3"},
		{"a mirror keeps all", map[string]ref{"mirrors/org.example/os/a": {tip: sum("a", 3), all: true}}, []config.Keep{keep(0, 0, "**")}, "7@3"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			stay, err := keptBy(h, tt.refs, tt.rules, now)
			must.OK(t, err)
			if got := counted(stay); got != tt.want {
				t.Errorf("kept %s, want %s", got, tt.want)
			}
		})
	}
}

// counted writes the commits of a set by their lines: a4 are four from the tip on, +3@6
// three more from the sixth parent on.
func counted(stay map[ostree.Checksum]string) string {
	var lines []string
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		text, n := "", 0
		for i := range 12 {
			if _, stays := stay[sum(name, i)]; stays {
				n++
				continue
			}
			if n == 0 {
				continue
			}
			switch from := i - n; {
			case from == 0:
				text = fmt.Sprint(name, n)
			case text != "":
				text += fmt.Sprintf("+%d@%d", n, from)
			default:
				text = fmt.Sprintf("%d@%d", n, from)
			}
			n = 0
		}
		if text != "" {
			lines = append(lines, text)
		}
	}
	return strings.Join(lines, " ")
}

// TestKeptByMany pins that many refs on one long history cost no more than one: each
// commit is read once, and walked as often as there are rules.
func TestKeptByMany(t *testing.T) {
	const long = 5000
	reads := 0
	h := newHistory(func(c ostree.Checksum) (*ostree.Commit, error) {
		reads++
		var i int
		_, err := fmt.Sscan(strings.Trim(string(c[1:]), "\x00"), &i)
		return &ostree.Commit{Parent: sum("z", i+1), HasParent: i < long, Time: math.MaxUint64}, err
	})
	refs := map[string]ref{}
	for i := range long {
		refs[fmt.Sprint("r/", i)] = ref{tip: sum("z", i)}
	}
	stay, err := keptBy(h, refs, nil, now)
	must.OK(t, err)
	if len(stay) != long+1 || reads != long+1 {
		t.Errorf("%d of %d commits stay, %d reads", len(stay), long+1, reads)
	}
}
