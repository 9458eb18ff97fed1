// SPDX-License-Identifier: AGPL-3.0-or-later

package page

import (
	"strings"

	"github.com/mattn/go-runewidth"
)

// A terminal gives some characters two columns and some none, so that what is laid
// out here is measured in columns, by the user's locale where that matters.

func width(s string) int { return runewidth.StringWidth(s) }

// cut keeps the end of a name, which tells more than its start.
func cut(s string, most int) string {
	if most < 1 {
		return ""
	}
	return runewidth.TruncatePrefix(s, most, "…")
}

// folded breaks a text into lines at blanks and, where there is none, anywhere.
func folded(text string, most int) (lines []string) {
	for width(text) > most {
		at := fitting(text, most)
		if text[at] != ' ' {
			if blank := strings.LastIndexByte(text[:at], ' '); blank > 0 {
				at = blank
			}
		}
		lines = append(lines, text[:at])
		text = strings.TrimPrefix(text[at:], " ")
	}
	return append(lines, text)
}

// fitting is how many bytes of a text that is wider fit into so many columns, at least
// those of one character.
func fitting(text string, most int) int {
	used := 0
	for i, r := range text {
		if used += runewidth.RuneWidth(r); used > most && i > 0 {
			return i
		}
	}
	return len(text)
}

// columns lays rows out as a table.
func columns(rows [][]string) string {
	var b strings.Builder
	wide := widths(rows)
	for _, row := range rows {
		for i, cell := range row[:len(row)-1] {
			b.WriteString(runewidth.FillRight(cell, wide[i]+columnGap))
		}
		b.WriteString(row[len(row)-1] + "\n")
	}
	return b.String()
}

// widths are those of the columns.
func widths(rows [][]string) []int {
	wide := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			wide[i] = max(wide[i], width(cell))
		}
	}
	return wide
}
