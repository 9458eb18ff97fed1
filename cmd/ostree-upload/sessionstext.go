// SPDX-License-Identifier: AGPL-3.0-or-later

package main

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/lirios/ostree-upload/internal/wire"
)

// sessionTable is one line for each session.
func sessionTable(list []wire.Session) string {
	return columns(func(w *tabwriter.Writer) {
		fmt.Fprintln(w, "SESSION\tSTATE\tREFS\tOBJECTS\tRECEIVED\tTOKEN\tUPDATED")
		for _, s := range list {
			fmt.Fprintf(w, "%s\t%s\t%s\t%d/%d\t%s\t%s\t%s\n", printable(s.ID), outcome(s), refNames(s),
				s.Objects.Known-s.Objects.Missing, s.Objects.Known, amount(s.Bytes.Received), printable(s.Token), clock(s.Updated))
		}
	})
}

// sessionPage is all fields of one session.
func sessionPage(s wire.Session) string {
	return columns(func(w *tabwriter.Writer) {
		fmt.Fprintf(w, "session\t%s\n", printable(s.ID))
		fmt.Fprintf(w, "state\t%s\n", outcome(s))
		if s.Detail != "" {
			fmt.Fprintf(w, "detail\t%s\n", printable(s.Detail))
		}
		fmt.Fprintf(w, "token\t%s\n", printable(s.Token))
		if s.Force {
			fmt.Fprintf(w, "force\tyes\n")
		}
		for _, r := range s.Refs {
			fmt.Fprintf(w, "ref\t%s  %s -> %s\n", printable(r.Ref), commit(r.Old), commit(r.New))
		}
		if more := s.RefCount - len(s.Refs); more > 0 {
			fmt.Fprintf(w, "refs\t%d more, which are not kept\n", more)
		}
		fmt.Fprintf(w, "created\t%s\n", clock(s.Created))
		fmt.Fprintf(w, "updated\t%s\n", clock(s.Updated))
		if !finished(s) {
			fmt.Fprintf(w, "expires\t%s\n", clock(s.Expires))
		}
		fmt.Fprintf(w, "objects\t%d known, %d missing, %d staged, %d rejected\n",
			s.Objects.Known, s.Objects.Missing, s.Objects.Staged, s.Objects.Rejected)
		fmt.Fprintf(w, "bytes\t%s received, %s staged\n", amount(s.Bytes.Received), amount(s.Bytes.Staged))
		for _, u := range s.Uploads {
			fmt.Fprintf(w, "upload\t%s  %s of %s\n", printable(u.Name), amount(u.Offset), amount(u.Size))
		}
		for _, p := range s.Problems {
			fmt.Fprintf(w, "problem\t%s  %s: %s\n", printable(p.Object), printable(p.Code), printable(p.Reason))
		}
	})
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
		return printable(s.State)
	}
	return printable(s.State) + " (" + printable(s.Error) + ")"
}

func refNames(s wire.Session) string {
	switch count := max(s.RefCount, len(s.Refs)); {
	case len(s.Refs) == 0:
		return "-"
	case count == 1:
		return printable(s.Refs[0].Ref)
	default:
		return fmt.Sprintf("%s and %d more", printable(s.Refs[0].Ref), count-1)
	}
}

func commit(c string) string {
	if c == "" {
		return "(new)"
	}
	return printable(c)
}

func clock(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("2006-01-02 15:04:05Z")
}

// printable replaces what could control the terminal in a server's text.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, s)
}
