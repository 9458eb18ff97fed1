// SPDX-License-Identifier: AGPL-3.0-or-later

package ostree

import (
	"bytes"
	"encoding/binary"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/gvariant"
	"github.com/lirios/ostree-upload/test/must"
)

// A summary says what libostree's own does, and is in normal form.
func TestSummary(t *testing.T) {
	path := filepath.Join(t.TempDir(), "repo")
	must.Run(t, "ostree", "init", "--repo="+path, "--mode=archive")
	must.Run(t, "ostree", "config", "--repo="+path, "set", "core.collection-id", "org.example.Os")
	tree := t.TempDir()
	for _, ref := range []string{"os/x", "os/y", "apps/with/a/long/name/" + strings.Repeat("n", 200)} {
		must.OK(t, os.WriteFile(filepath.Join(tree, "file"), []byte(ref), 0o644))
		must.Run(t, "ostree", "commit", "--repo="+path, "-b", ref, "--add-metadata-string=version=1.2", tree)
		must.Run(t, "ostree", "commit", "--repo="+path, "-b", ref+"-none", tree)
	}
	must.Run(t, "ostree", "summary", "--repo="+path, "-u")
	theirs, err := os.ReadFile(filepath.Join(path, "summary"))
	must.OK(t, err)
	repo, err := OpenRepo(path)
	must.OK(t, err)
	refs, err := repo.Refs()
	must.OK(t, err)
	ours, err := repo.Summary(refs, lastModified(t, theirs))
	must.OK(t, err)
	if !summaryType.Normal(ours) {
		t.Fatal("it is not in normal form")
	}
	if got, want := readSummary(ours), readSummary(theirs); !slices.Equal(got, want) {
		t.Errorf("summary:\n%q\nlibostree's:\n%q", got, want)
	}
	shown, err := SummaryRefs(theirs)
	must.OK(t, err)
	if !maps.Equal(shown, refs) || len(refs) == 0 {
		t.Errorf("it shows %v, the refs are %v", shown, refs)
	}
	for _, cut := range []int{0, 1, len(theirs) / 2, len(theirs) - 1} {
		if shown, err := SummaryRefs(theirs[:cut]); err == nil {
			t.Errorf("%d bytes of it show %v", cut, shown)
		}
	}
}

func lastModified(t *testing.T, summary []byte) time.Time {
	t.Helper()
	var m [2][]byte
	summaryType.Members(summary, m[:])
	for _, e := range gvariant.Dict(m[1]) {
		if e.Key == "ostree.summary.last-modified" {
			v, _ := gvariant.Value(e.Value, "t")
			return time.Unix(int64(binary.BigEndian.Uint64(v)), 0)
		}
	}
	t.Fatal("it was never modified")
	return time.Time{}
}

// readSummary lists what a summary says; the order of entries in a dictionary has no
// meaning.
func readSummary(b []byte) (says []string) {
	var m, entry, of [3][]byte
	summaryType.Members(b, m[:2])
	refs := gvariant.MustParse("a(s(taya{sv}))").Elements(m[0])
	for i := range refs.Len() {
		refs.Members(i, entry[:2])
		gvariant.MustParse("(taya{sv})").Members(entry[1], of[:])
		says = append(says, string(entry[0])+string(of[0])+string(of[1])+sortedDict(of[2]))
	}
	return append(says, sortedDict(m[1]))
}

func sortedDict(b []byte) string {
	list := gvariant.Dict(b)
	slices.SortFunc(list, func(a, b gvariant.Entry) int { return strings.Compare(a.Key, b.Key) })
	var all bytes.Buffer
	for _, e := range list {
		all.WriteString(e.Key + "=" + string(e.Value) + "\n")
	}
	return all.String()
}
