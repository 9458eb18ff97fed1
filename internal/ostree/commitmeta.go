// SPDX-License-Identifier: AGPL-3.0-or-later

package ostree

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/lirios/ostree-upload/internal/gvariant"
)

var (
	commitMetaType = gvariant.MustParse("a{sv}")
	signaturesType = gvariant.MustParse("aay")
)

// ParseCommitMeta checks a commit's detached metadata: an a{sv} in normal form of
// at most MaxCommitMeta bytes, without empty or duplicate keys.
func ParseCommitMeta(b []byte) error {
	_, err := readCommitMeta(b)
	return err
}

func readCommitMeta(b []byte) ([]gvariant.Entry, error) {
	if len(b) > MaxCommitMeta {
		return nil, fmt.Errorf("it is larger than the %d bytes that detached metadata may have", MaxCommitMeta)
	}
	if !commitMetaType.Normal(b) {
		return nil, errors.New("it is not in the normal form of detached metadata's a{sv}")
	}
	items := gvariant.Dict(b)
	seen := make(map[string]bool, len(items))
	for _, it := range items {
		if it.Key == "" {
			return nil, errors.New("it has an empty key")
		}
		if seen[it.Key] {
			return nil, fmt.Errorf("duplicate key %q", clip(it.Key))
		}
		seen[it.Key] = true
	}
	return items, nil
}

// MergeCommitMeta adds what a session brought for a commit to the detached
// metadata that the repository has; nil stands for none. Lists of signatures
// (ostree.gpgsigs and ostree.sign.*, type aay) become their union, the
// repository's first; under any other key the repository's value stays. If the
// session adds nothing, the result is repo, byte for byte. An error says which of
// the two is damaged, or that the union is larger than MaxCommitMeta.
func MergeCommitMeta(repo, session []byte) ([]byte, error) {
	ours, err := readCommitMeta(repo)
	if err != nil {
		return nil, fmt.Errorf("detached metadata of the repository: %w", err)
	}
	theirs, err := readCommitMeta(session)
	if err != nil {
		return nil, fmt.Errorf("detached metadata of the session: %w", err)
	}
	if !mergeEntries(&ours, theirs) {
		return repo, nil
	}
	merged := gvariant.WriteDict(ours)
	if len(merged) > MaxCommitMeta {
		return nil, fmt.Errorf("detached metadata would grow to %d bytes, more than %d", len(merged), MaxCommitMeta)
	}
	return merged, nil
}

// mergeEntries adds to ours what only theirs has, and reports whether there was
// any such thing.
func mergeEntries(ours *[]gvariant.Entry, theirs []gvariant.Entry) (changed bool) {
	at := map[string]int{}
	for i, it := range *ours {
		at[it.Key] = i
	}
	for _, it := range theirs {
		i, known := at[it.Key]
		if !known {
			*ours = append(*ours, it)
			changed = true
			continue
		}
		if !isSignatureKey(it.Key) {
			continue
		}
		if merged, added := mergeSignatures((*ours)[i].Value, it.Value); added {
			(*ours)[i].Value = merged
			changed = true
		}
	}
	return changed
}

func isSignatureKey(key string) bool {
	return key == "ostree.gpgsigs" || strings.HasPrefix(key, "ostree.sign.")
}

// mergeSignatures makes the union of two variants that hold lists of signatures,
// and reports whether theirs added any. If one of them is of another type, the
// result is ours.
func mergeSignatures(ours, theirs []byte) (merged []byte, added bool) {
	a, okA := readSignatures(ours)
	b, okB := readSignatures(theirs)
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
			a, added = append(a, s), true
		}
	}
	if !added {
		return ours, false
	}
	return gvariant.WriteVariant("aay", gvariant.WriteArray(1, a)), true
}

func readSignatures(variant []byte) ([][]byte, bool) {
	b, ok := gvariant.Value(variant, "aay")
	if !ok {
		return nil, false
	}
	a := signaturesType.Elements(b)
	list := make([][]byte, a.Len())
	for i := range list {
		list[i] = bytes.Clone(a.At(i))
	}
	return list, true
}
