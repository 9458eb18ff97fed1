// SPDX-License-Identifier: AGPL-3.0-or-later

package ostree

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// ParseCommitMeta checks a commit's detached metadata: a normal-form a{sv} of
// at most MaxCommitMeta bytes, without an empty key or one that stands there
// twice.
func ParseCommitMeta(b []byte) error {
	_, err := readCommitMeta(b)
	return err
}

func readCommitMeta(b []byte) ([]gvItem, error) {
	if len(b) > MaxCommitMeta {
		return nil, fmt.Errorf("it is larger than the %d bytes that detached metadata may have", MaxCommitMeta)
	}
	if !normal(dictType, b) {
		return nil, errors.New("it is not in the normal form of detached metadata's a{sv}")
	}
	items := readDict(b)
	seen := make(map[string]bool, len(items))
	for _, it := range items {
		if it.key == "" {
			return nil, errors.New("it has an empty key")
		}
		if seen[it.key] {
			return nil, fmt.Errorf("the key %q stands there twice", clip(it.key))
		}
		seen[it.key] = true
	}
	return items, nil
}

// MergeCommitMeta adds what a session brought for a commit to the detached
// metadata that the repository has; nil stands for none. Lists of signatures
// (ostree.gpgsigs and ostree.sign.*, type aay) become their union, the
// repository's first; under any other key the repository's value wins. If the
// session adds nothing, the result is repo, byte for byte. An error names the
// side that is not sound, or says that the union grew beyond MaxCommitMeta.
func MergeCommitMeta(repo, session []byte) ([]byte, error) {
	ours, err := readCommitMeta(repo)
	if err != nil {
		return nil, fmt.Errorf("detached metadata of the repository: %w", err)
	}
	theirs, err := readCommitMeta(session)
	if err != nil {
		return nil, fmt.Errorf("detached metadata of the session: %w", err)
	}
	if !mergeItems(&ours, theirs) {
		return repo, nil
	}
	merged := writeDict(ours)
	if len(merged) > MaxCommitMeta {
		return nil, fmt.Errorf("detached metadata would grow to %d bytes, more than %d", len(merged), MaxCommitMeta)
	}
	return merged, nil
}

// mergeItems adds to ours what theirs has more, and reports whether that was
// anything.
func mergeItems(ours *[]gvItem, theirs []gvItem) (changed bool) {
	at := map[string]int{}
	for i, it := range *ours {
		at[it.key] = i
	}
	for _, it := range theirs {
		i, known := at[it.key]
		if !known {
			*ours = append(*ours, it)
			changed = true
			continue
		}
		if !isSignatureKey(it.key) {
			continue
		}
		if merged, more := mergeSignatures((*ours)[i].value, it.value); more {
			(*ours)[i].value = merged
			changed = true
		}
	}
	return changed
}

func isSignatureKey(key string) bool {
	return key == "ostree.gpgsigs" || strings.HasPrefix(key, "ostree.sign.")
}

// mergeSignatures makes the union of two variants that hold lists of
// signatures. If either is of another type, the first stands.
func mergeSignatures(ours, theirs []byte) (merged []byte, more bool) {
	a, okA := readByteStrings(ours)
	b, okB := readByteStrings(theirs)
	if !okA || !okB {
		return ours, false
	}
	seen := make(map[string]bool, len(a))
	for _, s := range a {
		seen[string(s)] = true
	}
	for _, s := range b {
		if !seen[string(s)] {
			seen[string(s)] = true
			a, more = append(a, s), true
		}
	}
	if !more {
		return ours, false
	}
	return writeVariant("aay", writeArray(0, a)), true
}

func readByteStrings(variant []byte) ([][]byte, bool) {
	b, ok := ofType(variant, "aay")
	if !ok {
		return nil, false
	}
	a, _ := openArray(bytesListType, b)
	list := make([][]byte, a.len())
	for i := range list {
		list[i] = bytes.Clone(a.at(i))
	}
	return list, true
}
