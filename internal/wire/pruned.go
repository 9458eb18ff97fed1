// SPDX-License-Identifier: AGPL-3.0-or-later

package wire

// Pruned is what a prune removed or, by a dry run, would remove.
type Pruned struct {
	DryRun    bool        `json:"dry-run"`
	Rules     int         `json:"rules"`      // how many entries keep has
	Refs      []PrunedRef `json:"refs"`       // those that lose a part of their history
	Whole     int         `json:"refs-whole"` // how many others there are
	Unreached int         `json:"unreached"`  // commits that go and that no ref reaches
	Held      int         `json:"held"`       // commits that stay for sessions alone
	New       int         `json:"new"`        // of a bucket: commits that stay as they were written less than a day ago
	Commits   int         `json:"commits"`    // removed
	Objects   int         `json:"objects"`    // the same, besides the commits
	Deltas    int         `json:"deltas"`     // static deltas to commits that were removed
	Bytes     int64       `json:"bytes"`      // of commits and objects
}

// PrunedRef is a ref whose history loses commits. A commit that several refs reach
// counts for the first of them.
type PrunedRef struct {
	Ref     string `json:"ref"`
	Keeps   int    `json:"keeps"`   // commits, with its own
	Removes int    `json:"removes"` // commits
}
