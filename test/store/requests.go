// SPDX-License-Identifier: AGPL-3.0-or-later

package store

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// Requests counts what the gateway was asked, by kind (PutObject, HeadObject), since it
// was first started.
func (g *Gateway) Requests() (map[string]int, error) {
	log, err := os.ReadFile(g.requests)
	if err != nil {
		return nil, err
	}
	kinds := map[string]int{}
	for line := range strings.Lines(string(log)) {
		// Its owner, the bucket, the time in two words, the address, who, an ID, the kind.
		if f := strings.Fields(line); len(f) > 9 && strings.HasPrefix(f[7], "s3_") {
			kinds[strings.TrimPrefix(f[7], "s3_")]++
		}
	}
	return kinds, nil
}

// Since is what was asked after an earlier count.
func Since(earlier, now map[string]int) map[string]int {
	since := map[string]int{}
	for kind, n := range now {
		if n > earlier[kind] {
			since[kind] = n - earlier[kind]
		}
	}
	return since
}

// Told is a count as text.
func Told(requests map[string]int) string {
	var kinds []string
	for kind, n := range requests {
		kinds = append(kinds, fmt.Sprintf("%s %d", kind, n))
	}
	slices.Sort(kinds)
	return strings.Join(kinds, ", ")
}
