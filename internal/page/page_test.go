// SPDX-License-Identifier: AGPL-3.0-or-later

package page

import (
	"strings"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/wire"
)

var now = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

// widest is a session in which everything is as long as it can be.
var widest = wire.Session{
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
	small := widest
	small.Refs, small.Token, small.Objects = []wire.Ref{{Ref: "os/a"}}, "ci", wire.Objects{Known: 8114, Missing: 12}
	for _, text := range []string{
		Sessions(nil, now), Sessions([]wire.Session{widest}, now), Sessions([]wire.Session{small}, now),
		Sessions([]wire.Session{small, widest}, now), Session(widest), Session(wire.Session{}),
	} {
		for line := range strings.SplitSeq(text, "\n") {
			if n := len([]rune(line)); n > Width || strings.Contains(line, "\x1b") {
				t.Errorf("%d columns: %q", n, line)
			}
		}
	}
	if text := Sessions([]wire.Session{small}, now); !strings.Contains(text, "os/a ") || !strings.Contains(text, "8102/8114") {
		t.Error(text)
	}
	if text := Session(widest); !strings.Contains(text, strings.Repeat("f", 64)+".filez\n") {
		t.Error(text)
	}
}

// The age of a session is in the largest unit that it fills.
func TestAge(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0s ago", 59 * time.Second: "59s ago", time.Minute: "1m ago", 23 * time.Hour: "23h ago", 49 * time.Hour: "2d ago",
	} {
		if got := age(now.Add(-d), now); got != want {
			t.Errorf("%s: %s, want %s", d, got, want)
		}
	}
}
