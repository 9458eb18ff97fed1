// SPDX-License-Identifier: AGPL-3.0-or-later

package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"time"

	"github.com/lirios/ostree-upload/internal/durable"
	"github.com/lirios/ostree-upload/internal/ostree"
)

// spareTime is how long the server keeps commits that no ref reaches, from when it first
// saw that: a ref may be deleted or moved by mistake.
const spareTime = 24 * time.Hour

// unreachedFile is the file in the state folder that says since when the server has
// seen each of them. Without it their time begins anew.
const unreachedFile = "unreached.json"

// spare tells which of the commits that no ref reaches now are to stay, and notes those
// that it sees for the first time.
func spare(state string, unreached []ostree.Checksum, now time.Time) (stay map[ostree.Checksum]bool, err error) {
	path := filepath.Join(state, unreachedFile)
	before, err := readUnreached(path)
	if err != nil {
		return nil, err
	}
	since := make(map[string]time.Time, len(unreached))
	stay = make(map[ostree.Checksum]bool)
	for _, c := range unreached {
		seen, ok := before[c.String()]
		if !ok || seen.After(now) {
			seen = now.UTC()
		}
		since[c.String()] = seen
		if now.Sub(seen) < spareTime {
			stay[c] = true
		}
	}
	if maps.Equal(before, since) {
		return stay, nil
	}
	return stay, durable.Replace(path, func(f *os.File) error { return json.NewEncoder(f).Encode(since) })
}

// readUnreached reads the file. One that is damaged says nothing.
func readUnreached(path string) (since map[string]time.Time, err error) {
	if err := durable.RemoveTemporary(path); err != nil {
		return nil, err
	}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && json.Unmarshal(b, &since) != nil {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read since when no ref reaches some commits: %w", err)
	}
	return since, nil
}
