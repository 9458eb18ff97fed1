// SPDX-License-Identifier: AGPL-3.0-or-later

package page

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/lirios/ostree-upload/internal/units"
	"github.com/lirios/ostree-upload/internal/wire"
)

// Pruned is what a prune removed, or would remove.
func Pruned(p *wire.Pruned) string {
	var b strings.Builder
	if len(p.Refs) > 0 {
		removes := "REMOVED"
		if p.DryRun {
			removes = "REMOVES"
		}
		rows := [][]string{{"REF", "KEEPS", removes}}
		for _, r := range p.Refs {
			rows = append(rows, []string{cut(Printable(r.Ref), maxRefWidth), strconv.Itoa(r.Keeps), strconv.Itoa(r.Removes)})
		}
		b.WriteString(columns(rows))
	}
	if p.Rules == 0 {
		b.WriteString("every ref keeps all of its history: the configuration has no keep\n")
	}
	if p.Whole > 0 && len(p.Refs) > 0 {
		fmt.Fprintf(&b, "%s keep all that they have\n", units.Count(int64(p.Whole), "other ref", "other refs"))
	}
	if p.Unreached > 0 {
		fmt.Fprintf(&b, "%s that no ref reaches\n", units.Count(int64(p.Unreached), "commit", "commits"))
	}
	if p.Held > 0 {
		fmt.Fprintf(&b, "%s kept for sessions alone\n", units.Count(int64(p.Held), "commit", "commits"))
	}
	if p.New > 0 {
		fmt.Fprintf(&b, "%s kept for now, written less than a day ago\n", units.Count(int64(p.New), "commit", "commits"))
	}
	b.WriteString(prunedInAll(p))
	return b.String()
}

// maxRefWidth leaves room for two columns of numbers in a line of 80.
const maxRefWidth = 60

func prunedInAll(p *wire.Pruned) string {
	did := "removed"
	if p.DryRun {
		did = "would remove"
	}
	if p.Commits+p.Objects+p.Deltas == 0 {
		return did + " nothing\n"
	}
	text := fmt.Sprintf("%s %s and %s", did, units.Count(int64(p.Commits), "commit", "commits"), units.Count(int64(p.Objects), "other object", "other objects"))
	if p.Deltas > 0 {
		text += " and " + units.Count(int64(p.Deltas), "static delta", "static deltas")
	}
	return text + ", " + units.Amount(p.Bytes) + "\n"
}
