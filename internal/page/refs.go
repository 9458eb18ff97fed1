// SPDX-License-Identifier: AGPL-3.0-or-later

package page

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/lirios/ostree-upload/internal/wire"
)

// Refs is a line for each ref, by name: its commit, and what it is an alias of. Programs
// read it, so that lines are as long as the names.
func Refs(list wire.RefList) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(list.Refs)) {
		state := list.Refs[name]
		commit := Printable(state.Commit)
		if commit == "" {
			commit = "-"
		}
		fmt.Fprintf(&b, "%s %s", Printable(name), commit)
		if state.Alias != "" {
			fmt.Fprintf(&b, " -> %s", Printable(state.Alias))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// RefLog is the moves of a ref, the newest first.
func RefLog(log wire.RefLog) string {
	var b strings.Builder
	for _, m := range log.Moves {
		how := strings.ReplaceAll(Printable(m.How), "-", " ")
		if m.Force && m.How == wire.Pushed {
			how += " by force"
		}
		who := Printable(m.Token)
		if m.By != "" {
			who += ", published by " + Printable(m.By)
		}
		fmt.Fprintf(&b, "%s %s by %s, session %s\n", clock(m.At), how, who, Printable(m.Session))
		fmt.Fprintf(&b, "  from %s\n", Printable(commit(m.Old)))
		if m.New != "" {
			fmt.Fprintf(&b, "  to   %s\n", Printable(m.New))
		}
	}
	return b.String()
}
