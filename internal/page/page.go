// SPDX-License-Identifier: AGPL-3.0-or-later

// Package page lays out the server's sessions for people: no line is longer than
// Width, and nothing in it can control the terminal.
package page

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/lirios/ostree-upload/internal/units"
	"github.com/lirios/ostree-upload/internal/wire"
)

// Width is the most columns of a line.
const Width = 80

// The columns of a table of sessions, and how wide each may be. Names of refs get what
// the others leave, and no less than leastRefs.
var (
	sessionColumns = []string{"SESSION", "STATE", "REFS", "OBJECTS", "RECEIVED", "TOKEN", "UPDATED"}
	widest         = []int{16, 10, Width, 9, 12, 8, 8}
)

const (
	refsColumn = 2
	leastRefs  = 5
)

// Sessions is a table with a line for each session, with ages as of now.
func Sessions(list []wire.Session, now time.Time) string {
	rows := [][]string{slices.Clone(sessionColumns)}
	for _, s := range list {
		row := []string{
			Printable(s.ID), Printable(s.State), refNames(s), share(s.Objects), units.Amount(s.Bytes.Received),
			Printable(s.Token), age(s.Updated, now),
		}
		for i := range row {
			row[i] = cut(row[i], widest[i])
		}
		rows = append(rows, row)
	}
	left := Width
	for i, w := range widths(rows) {
		if i != refsColumn {
			left -= w + columnGap
		}
	}
	for _, row := range rows {
		row[refsColumn] = cut(row[refsColumn], max(leastRefs, left))
	}
	return columns(rows)
}

// share is how many of its objects the server has, in up to 9 columns.
func share(o wire.Objects) string {
	there := o.Known - o.Missing
	if o.Known < 10_000 {
		return fmt.Sprintf("%d/%d", there, o.Known)
	}
	return fmt.Sprintf("%d%%", 100*there/o.Known)
}

// age is how long ago a time was, in its largest unit.
func age(t, now time.Time) string {
	if t.IsZero() {
		return "-"
	}
	for _, unit := range []struct {
		name string
		size time.Duration
	}{{"y", 365 * 24 * time.Hour}, {"d", 24 * time.Hour}, {"h", time.Hour}, {"m", time.Minute}} {
		if d := now.Sub(t); d >= unit.size {
			return fmt.Sprintf("%d%s ago", d/unit.size, unit.name)
		}
	}
	return fmt.Sprintf("%ds ago", max(0, int(now.Sub(t).Seconds())))
}

// Session is all fields of one session.
func Session(s wire.Session) string {
	var b strings.Builder
	line := func(label, format string, args ...any) {
		for _, text := range folded(Printable(fmt.Sprintf(format, args...)), Width-labels) {
			fmt.Fprintf(&b, "%-*s%s\n", labels, label, text)
			label = ""
		}
	}
	line("session", "%s", s.ID)
	line("state", "%s", outcome(s))
	if s.Detail != "" {
		line("detail", "%s", s.Detail)
	}
	line("token", "%s", s.Token)
	for _, h := range s.Handed {
		line("handed", "from %s to %s by %s, %s", h.From, h.To, h.By, clock(h.At))
	}
	if s.Force {
		line("force", "yes")
	}
	if s.Promote {
		line("promote", "yes: it brings no object")
	}
	if s.Hold {
		line("hold", "%s", held(s))
	}
	if s.Preview != "" {
		fmt.Fprintf(&b, "%-*s%s\n", labels, "preview", Printable(s.Preview)) // whole, for who copies it
	}
	if s.Repair {
		line("repair", "yes")
	}
	for _, r := range s.Refs {
		line("ref", "%s", r.Ref)
		line("", "from %s", commit(r.Old))
		line("", "to   %s", cmp.Or(r.New, "(deleted)"))
	}
	if more := s.RefCount - len(s.Refs); more > 0 {
		line("refs", "%d more, which are not kept", more)
	}
	line("created", "%s", clock(s.Created))
	line("updated", "%s", clock(s.Updated))
	if !Ended(s) {
		line("expires", "%s", clock(s.Expires))
	}
	line("objects", "%d known, %d missing, %d staged, %d rejected", s.Objects.Known, s.Objects.Missing, s.Objects.Staged, s.Objects.Rejected)
	line("bytes", "%s received, %s staged", units.Amount(s.Bytes.Received), units.Amount(s.Bytes.Staged))
	for _, u := range s.Uploads {
		line("upload", "%s %s of %s", u.Name, units.Amount(u.Offset), units.Amount(u.Size))
	}
	for _, a := range s.After {
		line("after", "%s", work(a))
	}
	for _, p := range s.Problems {
		line("problem", "%s %s: %s", p.Object, p.Code, p.Reason)
	}
	return b.String()
}

// work is how a work stands that follows the publish.
func work(a wire.After) string {
	text := a.Work + " " + a.State
	if !a.Since.IsZero() {
		text += ", to follow since " + clock(a.Since)
	}
	if a.Error != "" {
		text += fmt.Sprintf(", tried again at %s: %s", clock(a.Next), a.Error)
	}
	return text
}

// held says what became of a session that was to be held.
func held(s wire.Session) string {
	switch {
	case s.By == "":
		return "yes"
	case s.State == wire.Rejected:
		return "rejected by token " + s.By
	case s.State == wire.Published:
		return "published by token " + s.By
	}
	return "token " + s.By + " asked to publish it"
}

// labels is the width of the column of labels.
const labels = 9

// Ended tells whether a session has its final state.
func Ended(s wire.Session) bool {
	switch s.State {
	case wire.Open, wire.Verifying, wire.Publishing, wire.Held:
		return false
	}
	return true
}

// outcome is the state, and the code of the error if there is one.
func outcome(s wire.Session) string {
	if s.Error == "" {
		return s.State
	}
	return s.State + " (" + s.Error + ")"
}

func refNames(s wire.Session) string {
	switch n := max(s.RefCount, len(s.Refs)); {
	case len(s.Refs) == 0:
		return "-"
	case n == 1:
		return Printable(s.Refs[0].Ref)
	default:
		return fmt.Sprintf("%s +%d", Printable(s.Refs[0].Ref), n-1)
	}
}

func commit(c string) string {
	if c == "" {
		return "(new)"
	}
	return c
}

func clock(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("2006-01-02 15:04:05Z")
}

// Printable replaces what could control the terminal in a server's text.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, s)
}
