// SPDX-License-Identifier: AGPL-3.0-or-later

package page

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lirios/ostree-upload/internal/token"
)

// TokenList is a document of tokens.
type TokenList struct {
	token.List
	// Unknown says why it is not known when a token was last used, "" if it is.
	Unknown string `json:"last-use-unknown,omitempty"`
}

// The widths of columns whose content is bounded, and the most that one of others is
// given where it is wider.
const (
	dateWidth  = len(time.DateOnly)
	ageWidth   = len("LAST USE")
	scopeWidth = len("sessions")
	widestName = 16
	mostLines  = 10 // of refs
	columnGap  = 2
)

// Tokens is a table of tokens with ages as of now. A token with several scopes or
// refs has several lines; one whose name is too long for its column has it in a line
// above. The entries of oidc follow, with that word in place of the times.
func Tokens(list TokenList, now time.Time) string {
	name, all := len("NAME"), slices.Clone(list.Tokens)
	for _, t := range list.OIDC {
		all = append(all, token.Listed{Name: t.Name, Scopes: t.Scopes, Refs: t.Refs, LastUse: t.LastUse, Repositories: t.Repositories})
	}
	for _, t := range all {
		if len(t.Name) <= widestName {
			name = max(name, len(t.Name))
		}
	}
	refs := len("REFS")
	for _, t := range all {
		for _, r := range refLines(t.Refs, Width) {
			refs = max(refs, len(r))
		}
	}
	refs = min(refs, Width-name-scopeWidth-2*dateWidth-ageWidth-5*columnGap)
	var b strings.Builder
	row := func(cells ...string) {
		line := fmt.Sprintf("%-*s  %-*s  %-*s  %-*s  %-*s  %s", name, cells[0], scopeWidth, cells[1], refs, cells[2],
			dateWidth, cells[3], dateWidth, cells[4], cells[5])
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	row("NAME", "SCOPES", "REFS", "CREATED", "EXPIRES", "LAST USE")
	for i, t := range all {
		tokenRows(&t, row, &b, refs, i >= len(list.Tokens), list.Unknown == "", now)
	}
	return b.String()
}

// tokenRows prints the lines of one token.
func tokenRows(t *token.Listed, row func(...string), b *strings.Builder, refs int, oidc, known bool, now time.Time) {
	name, globs := Printable(t.Name), refLines(t.Refs, refs)
	if len(name) > widestName {
		fmt.Fprintln(b, name)
		name = ""
	}
	cells := []string{name, "", "", day(t.Created), "never", "?"}
	switch {
	case oidc:
		cells[3], cells[4] = "oidc", "-"
	case t.Expired:
		cells[4] = "expired"
	case t.Expires != nil:
		cells[4] = day(t.Expires)
	}
	switch {
	case t.LastUse != nil:
		cells[5] = age(*t.LastUse, now)
	case known:
		cells[5] = "never"
	}
	for i := range max(1, len(t.Scopes), len(globs)) {
		cells[1], cells[2] = at(t.Scopes, i), at(globs, i)
		row(cells...)
		cells = make([]string, len(cells))
	}
	if t.Repositories != nil {
		for _, line := range boundLines(*t.Repositories) {
			fmt.Fprintln(b, line)
		}
	}
	for _, until := range t.Previous {
		fmt.Fprintf(b, "  an earlier secret of it works until %s\n", clock(until))
	}
}

// boundLines says which repositories a token may be used for.
func boundLines(names []string) (lines []string) {
	if len(names) == 0 {
		return []string{"  for no repository"}
	}
	line := "  for repository"
	for _, name := range names {
		if name = " " + Printable(name); len(line)+len(name) > Width {
			lines, line = append(lines, line), "   "
		}
		line += name
	}
	return append(lines, line)
}

// refLines is globs of refs, in lines of a width.
func refLines(globs *[]string, width int) (lines []string) {
	switch {
	case globs == nil:
		return []string{"all"}
	case len(*globs) == 0:
		return []string{"none"}
	}
	for _, g := range *globs {
		lines = append(lines, folded(Printable(g), width)...)
	}
	if more := len(lines) - mostLines; more > 1 {
		lines = append(lines[:mostLines], fmt.Sprintf("%d more", more))
	}
	return lines
}

func at(list []string, i int) string {
	if i < len(list) {
		return list[i]
	}
	return ""
}

func day(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return t.UTC().Format(time.DateOnly)
}
