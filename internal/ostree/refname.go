// SPDX-License-Identifier: AGPL-3.0-or-later

package ostree

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

const (
	// maxRefPart leaves room below NAME_MAX for the temporary names that
	// libostree makes out of a ref's last part.
	maxRefPart = 200
	maxRef     = 4000 // refs/heads/<ref> must stay below PATH_MAX
)

// ValidateRef checks a ref's name: parts of [A-Za-z0-9_][-._A-Za-z0-9]*, at
// most 200 bytes each, joined by "/", and not 64 hex digits, which would read as
// a commit. It is stricter than libostree's ostree_validate_rev, which accepts
// names that then fail while refs flip.
func ValidateRef(ref string) error {
	if ref == "" {
		return errors.New("a ref's name is empty")
	}
	if len(ref) > maxRef {
		return fmt.Errorf("ref %q is longer than %d bytes", clip(ref), maxRef)
	}
	if isHex64(strings.ToLower(ref)) {
		return fmt.Errorf("ref %q looks like a commit's checksum", ref)
	}
	for part := range strings.SplitSeq(ref, "/") {
		if err := validateRefPart(part); err != nil {
			return fmt.Errorf("ref %q: %w", clip(ref), err)
		}
	}
	return nil
}

func validateRefPart(part string) error {
	if part == "" {
		return errors.New("it has an empty part")
	}
	if len(part) > maxRefPart {
		return fmt.Errorf("a part of it is longer than %d bytes", maxRefPart)
	}
	for i := range len(part) {
		c := part[i]
		if isAlnum(c) || c == '_' || i > 0 && (c == '-' || c == '.') {
			continue
		}
		if i == 0 {
			return fmt.Errorf("a part of it starts with %q", part[:1])
		}
		return fmt.Errorf("it contains %q", part[i:i+1])
	}
	return nil
}

func isAlnum(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// ConflictingRef finds two refs of which a is a folder of b ("a" and "a/b"):
// refs are files, so both cannot exist.
func ConflictingRef(refs []string) (a, b string, found bool) {
	known := make(map[string]bool, len(refs))
	for _, r := range refs {
		known[r] = true
	}
	sorted := slices.Sorted(slices.Values(refs))
	for _, r := range sorted {
		for i := range len(r) {
			if r[i] == '/' && known[r[:i]] {
				return r[:i], r, true
			}
		}
	}
	return "", "", false
}
