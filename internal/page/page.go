// SPDX-License-Identifier: AGPL-3.0-or-later

// Package page lays out the server's sessions for people: no line is longer than
// Width, and nothing in it can control the terminal.
package page

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/lirios/ostree-upload/internal/units"
	"github.com/lirios/ostree-upload/internal/wire"
)

// Width is the most columns of a line.
const Width = 80

// The widest that a name in a table is, and the narrowest that it is cut to.
const (
	widestToken = 10
	leastRefs   = 6
)

// Sessions is a table with a line for each session, with ages as of now.
func Sessions(list []wire.Session, now time.Time) string {
	rest := table(list, now, 0)
	first, _, _ := strings.Cut(rest, "\n")
	return table(list, now, max(leastRefs, Width-len([]rune(first))))
}

// table gives the names of refs so many columns.
func table(list []wire.Session, now time.Time, refs int) string {
	return columns(func(w *tabwriter.Writer) {
		fmt.Fprintf(w, "SESSION\tSTATE\t%s\tOBJECTS\tRECEIVED\tTOKEN\tUPDATED\n", cut("REFS", refs))
		for _, s := range list {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", Printable(s.ID), Printable(s.State), cut(refNames(s), refs),
				share(s.Objects), units.Amount(s.Bytes.Received), cut(Printable(s.Token), widestToken), age(s.Updated, now))
		}
	})
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
	}{{"d", 24 * time.Hour}, {"h", time.Hour}, {"m", time.Minute}} {
		if d := now.Sub(t); d >= unit.size {
			return fmt.Sprintf("%d%s ago", d/unit.size, unit.name)
		}
	}
	return fmt.Sprintf("%ds ago", max(0, int(now.Sub(t).Seconds())))
}

// cut keeps the end of a name, which tells more than its start.
func cut(s string, width int) string {
	r := []rune(s)
	if len(r) <= width {
		return s
	}
	if width < 1 {
		return ""
	}
	return "…" + string(r[len(r)-width+1:])
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
	if s.Force {
		line("force", "yes")
	}
	for _, r := range s.Refs {
		line("ref", "%s", r.Ref)
		line("", "from %s", commit(r.Old))
		line("", "to   %s", commit(r.New))
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
	for _, p := range s.Problems {
		line("problem", "%s %s: %s", p.Object, p.Code, p.Reason)
	}
	return b.String()
}

// labels is the width of the column of labels.
const labels = 9

// folded breaks a text into lines at blanks and, where there is none, anywhere.
func folded(text string, width int) (lines []string) {
	for r := []rune(text); ; {
		if len(r) <= width {
			return append(lines, string(r))
		}
		at := width
		for i := width; i > 0; i-- {
			if r[i] == ' ' {
				at = i
				break
			}
		}
		lines = append(lines, string(r[:at]))
		r = r[at:]
		if len(r) > 0 && r[0] == ' ' {
			r = r[1:]
		}
	}
}

// Ended tells whether a session has its final state.
func Ended(s wire.Session) bool {
	switch s.State {
	case wire.Open, wire.Verifying, wire.Publishing:
		return false
	}
	return true
}

func columns(fill func(*tabwriter.Writer)) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fill(w)
	w.Flush() // a strings.Builder does not fail
	return b.String()
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
