// SPDX-License-Identifier: AGPL-3.0-or-later

package ostree

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/lirios/ostree-upload/internal/gvariant"
)

// Summary makes a summary of refs, (a(s(taya{sv}))a{sv}), as
// ostree_repo_regenerate_summary does for a repository that has no static deltas. It reads
// their commits. Times are big endian in it and sizes are not, as libostree writes them.
func (r *Repo) Summary(refs map[string]Checksum, now time.Time) ([]byte, error) {
	entries := make([][]byte, 0, len(refs))
	for _, name := range slices.Sorted(maps.Keys(refs)) { // whoever reads it seeks by halves
		e, err := r.summaryEntry(name, refs[name])
		if err != nil {
			return nil, fmt.Errorf("ref %s: %w", name, err)
		}
		entries = append(entries, e)
	}
	b := gvariant.WriteArray(8, entries)
	list := len(b)
	b = append(pad8(b), gvariant.WriteDict(r.summaryMetadata(now))...)
	return gvariant.AppendOffsets(b, len(b), list), nil
}

// EmptySummary is that of a new archive repository.
func EmptySummary(now time.Time) ([]byte, error) {
	return (&Repo{mode: "archive-z2"}).Summary(nil, now)
}

var (
	summaryType = gvariant.MustParse("(a(s(taya{sv}))a{sv})")
	entriesType = gvariant.MustParse("a(s(taya{sv}))")
	entryType   = gvariant.MustParse("(taya{sv})")
)

// SummaryRefs are the refs that a summary shows, but for those of other collections.
func SummaryRefs(b []byte) (map[string]Checksum, error) {
	if !summaryType.Normal(b) {
		return nil, errors.New("it does not have the form of a summary")
	}
	var m, entry, of [3][]byte
	summaryType.Members(b, m[:2])
	list := entriesType.Elements(m[0])
	refs := make(map[string]Checksum, list.Len())
	for i := range list.Len() {
		list.Members(i, entry[:2])
		entryType.Members(entry[1], of[:])
		name := gvariant.String(entry[0])
		if len(of[1]) != len(Checksum{}) {
			return nil, fmt.Errorf("ref %q is at no commit in it", clip(name))
		}
		refs[name] = Checksum(of[1])
	}
	return refs, nil
}

// summaryEntry is (s(taya{sv})): the ref, and of its commit the size, the checksum and what
// else is said of it.
func (r *Repo) summaryEntry(name string, sum Checksum) ([]byte, error) {
	b, err := r.soundMetadata(Name{sum, CommitObject})
	if err != nil {
		return nil, err
	}
	commit, err := ParseCommit(b)
	if err != nil {
		return nil, &BadObjectError{Object: Name{sum, CommitObject}, Reason: err.Error()}
	}
	of := binary.LittleEndian.AppendUint64(nil, uint64(len(b)))
	of = append(of, sum[:]...)
	end := len(of)
	of = append(of, gvariant.WriteDict(commitSays(commit))...)
	of = gvariant.AppendOffsets(of, len(of), end)

	e := append([]byte(name), 0)
	end = len(e)
	e = append(pad8(e), of...)
	return gvariant.AppendOffsets(e, len(e), end), nil
}

func commitSays(c *Commit) []gvariant.Entry {
	list := []gvariant.Entry{{Key: "ostree.commit.timestamp", Value: gvariant.WriteVariant("t", bigEndian(c.Time))}}
	if c.Version != "" {
		list = append(list, gvariant.Entry{Key: "ostree.commit.version", Value: stringVariant(c.Version)})
	}
	return list
}

func (r *Repo) summaryMetadata(now time.Time) []gvariant.Entry {
	list := []gvariant.Entry{
		{Key: "ostree.summary.indexed-deltas", Value: boolVariant(r.IndexesDeltas())},
		{Key: "ostree.summary.last-modified", Value: gvariant.WriteVariant("t", bigEndian(uint64(now.Unix())))},
		{Key: "ostree.summary.mode", Value: stringVariant(r.mode)},
		{Key: "ostree.summary.tombstone-commits", Value: boolVariant(r.config.isSet("core.tombstone-commits"))},
	}
	if r.collectionID != "" {
		list = append(list, gvariant.Entry{Key: "ostree.summary.collection-id", Value: stringVariant(r.collectionID)})
	}
	return list
}

func bigEndian(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

func stringVariant(s string) []byte { return gvariant.WriteVariant("s", append([]byte(s), 0)) }

func boolVariant(is bool) []byte {
	b := []byte{0}
	if is {
		b[0] = 1
	}
	return gvariant.WriteVariant("b", b)
}

func pad8(b []byte) []byte {
	for len(b)%8 != 0 {
		b = append(b, 0)
	}
	return b
}
