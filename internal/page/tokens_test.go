// SPDX-License-Identifier: AGPL-3.0-or-later

package page

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/token"
)

// TestTokens pins the table of tokens: no line is longer than 80 columns, and each
// name, scope and ref is whole in it, but for refs beyond those that have a line.
func TestTokens(t *testing.T) {
	now := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	before := now.Add(-90 * time.Minute)
	many := []string{}
	for i := range 30 {
		many = append(many, fmt.Sprintf("app/%d", i))
	}
	long := strings.Repeat("x", 64)
	list := TokenList{List: token.List{Tokens: []token.Listed{
		{Name: "ci", Scopes: []string{"push"}, Created: &before, Expires: &now, LastUse: &before},
		{Name: "sixteen-letters0", Scopes: []string{"push", "force", "sessions"}, Refs: &[]string{"os/**", "app/*"}, Previous: []time.Time{now}},
		{Name: long, Scopes: []string{}, Refs: &[]string{}, Expired: true, Expires: &before},
		{Name: "many", Scopes: []string{"admin"}, Refs: &many},
	}}}
	want := `NAME              SCOPES    REFS     CREATED     EXPIRES     LAST USE
ci                push      all      2026-11-23  2026-11-23  1h ago
sixteen-letters0  push      os/**    -           never       never
                  force     app/*
                  sessions
  an earlier secret of it works until 2026-11-23 10:00:00Z
` + long + `
                            none     -           expired     never
many              admin     app/0    -           never       never
`
	got := Tokens(list, now)
	if !strings.HasPrefix(got, want) || !strings.HasSuffix(got, " app/9\n                            20 more\n") {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	list.Tokens[0].Refs = &[]string{strings.Repeat("os/x86_64/stable/", 20) + "*"}
	list.Unknown = "no file"
	got = Tokens(list, now)
	for line := range strings.Lines(got) {
		if len(strings.TrimSuffix(line, "\n")) > Width {
			t.Errorf("%d columns: %s", len(line), line)
		}
	}
	if strings.Count(got, "?") != 3 {
		t.Errorf("it does not say that last uses are unknown:\n%s", got)
	}
}
