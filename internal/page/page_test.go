// SPDX-License-Identifier: AGPL-3.0-or-later

package page

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/wire"
)

var now = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

// longest is a session in which everything is as long as it can be.
var longest = wire.Session{
	ID: "k3xq7mpl2wbz5aen", State: wire.Publishing, Error: wire.InsufficientStorage, Token: strings.Repeat("token", 12),
	Refs: []wire.Ref{
		{Ref: strings.Repeat("long/", 40) + "stable", Old: strings.Repeat("1", 64), New: strings.Repeat("2", 64)},
		{Ref: "b", New: strings.Repeat("2", 64)},
	},
	Created: now.Add(-99 * 24 * time.Hour), Updated: now.Add(-59 * time.Minute),
	Objects:  wire.Objects{Known: 1_234_567, Missing: 12},
	Bytes:    wire.Bytes{Received: 9_999_000},
	Detail:   strings.Repeat("words and more words ", 20),
	Uploads:  []wire.Upload{{Name: strings.Repeat("f", 64) + ".dirmeta", Offset: 9_999_000, Size: 9_999_000}},
	Problems: []wire.ObjectProblem{{Object: strings.Repeat("f", 64) + ".filez", Code: wire.BadObjects, Reason: "it is\x1b[2J " + strings.Repeat("x", 200)}},
}

// No line of a table or of a page is wider than a terminal of old, whatever is in it,
// and nothing of a server's text reaches the terminal but what can be printed.
func TestWidth(t *testing.T) {
	small, wide, hostile := longest, longest, longest
	wide.Token, wide.Detail = strings.Repeat("構", 60), strings.Repeat("見る e\u0301 👩‍🚀 ", 40)
	wide.Problems = []wire.ObjectProblem{{Object: strings.Repeat("構", 70), Code: wire.Policy, Reason: strings.Repeat("ｗ", 100)}}
	wide.Uploads, wide.Bytes.Received, wide.Updated = []wire.Upload{{Name: strings.Repeat("構", 50)}}, 9999, now.Add(-364*24*time.Hour)
	hostile.ID, hostile.State, hostile.Updated = strings.Repeat("x", 100), strings.Repeat("構", 100), time.Unix(1, 0)
	hostile.Objects, hostile.Bytes.Received = wire.Objects{Known: math.MaxInt64, Missing: math.MinInt64}, math.MaxInt64
	small.Refs, small.Token, small.Objects = []wire.Ref{{Ref: "os/a"}}, "ci", wire.Objects{Known: 8114, Missing: 12}
	for _, text := range []string{
		Sessions(nil, now), Sessions([]wire.Session{longest}, now), Sessions([]wire.Session{small}, now),
		Sessions([]wire.Session{small, longest}, now), Session(longest), Session(wire.Session{}),
		Sessions([]wire.Session{wide}, now), Session(wide), Sessions([]wire.Session{longest, wide, small, hostile}, now), Session(hostile),
	} {
		for line := range strings.SplitSeq(text, "\n") {
			if n := width(line); n > Width || strings.Contains(line, "\x1b") {
				t.Errorf("%d columns: %q", n, line)
			}
		}
	}
	if text := Sessions([]wire.Session{small}, now); !strings.Contains(text, "os/a ") || !strings.Contains(text, "8102/8114") {
		t.Error(text)
	}
	if text := Session(longest); !strings.Contains(text, strings.Repeat("f", 64)+".filez\n") {
		t.Error(text)
	}
}

// In each state, at any age and with any sum of bytes, a line fits, and the columns
// stand below each other whatever is in them.
func TestTable(t *testing.T) {
	var list []wire.Session
	for _, state := range wire.States {
		for _, received := range []int64{0, 9_999, 10_000, 9_999_999, 9_999_999_999, 1e15} {
			for _, ago := range []time.Duration{0, 59 * time.Minute, 364 * 24 * time.Hour, 3000 * 24 * time.Hour} {
				s := longest
				s.State, s.Bytes.Received, s.Updated = state, received, now.Add(-ago)
				list = append(list, s)
			}
		}
	}
	list[0].Token, list[1].Token, list[2].Token = "構構構構構", "ci", "e\u0301e\u0301"
	at := 0
	for i, line := range strings.Split(strings.TrimSuffix(Sessions(list, now), "\n"), "\n") {
		if width(line) > Width {
			t.Errorf("%d columns: %q", width(line), line)
		}
		last := width(line[:strings.LastIndex(line, "  ")]) + 2
		if i == 0 {
			at = last
		}
		if last != at {
			t.Errorf("the last column is at %d and not %d: %q", last, at, line)
		}
	}
}

// The age of a session is in the largest unit that it fills.
func TestAge(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0s ago", 59 * time.Second: "59s ago", time.Minute: "1m ago", 23 * time.Hour: "23h ago", 49 * time.Hour: "2d ago", 364 * 24 * time.Hour: "364d ago", 800 * 24 * time.Hour: "2y ago",
	} {
		if got := age(now.Add(-d), now); got != want {
			t.Errorf("%s: %s, want %s", d, got, want)
		}
	}
}
