// SPDX-License-Identifier: AGPL-3.0-or-later

package site

import (
	"regexp"
	"strings"
)

// accessed finds the function that made each access of a race report.
var accessed = regexp.MustCompile(`(?m)^ *(?:Previous )?(?:atomic )?(?:[Rr]ead|[Ww]rite) at .*\n(?: *runtime\..*\n.*\n)* *(\S+)\(`)

// DataRaces are the reports in what a process wrote to stderr, built with -race,
// but for those of tusd with itself: there, a stop or a connection that breaks
// looks at a request's body while another goroutine sets it
// (UnroutedHandler.newContext against writeChunk, tusd 2.9.1).
func DataRaces(stderr string) string {
	var ours strings.Builder
	for _, report := range strings.Split(stderr, "==================") {
		if !strings.Contains(report, "WARNING: DATA RACE") {
			continue
		}
		for _, m := range accessed.FindAllStringSubmatch(report, -1) {
			if !strings.HasPrefix(m[1], "github.com/tus/tusd/") {
				ours.WriteString(report)
				break
			}
		}
	}
	return ours.String()
}
