// SPDX-License-Identifier: AGPL-3.0-or-later

package publish_test

import (
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/publish"
	"github.com/lirios/ostree-upload/test/must"
	ts "github.com/lirios/ostree-upload/test/server"
)

// A ref may be where its last session brought it, or beyond. Back where it was
// is a finding: the move may be lost. Anywhere else is a note.
func TestInspectRefs(t *testing.T) {
	repo, c := build(t, "one", "two", "three", "four")
	s := ts.Start(t, "archive")
	client := s.Client(s.Token)
	for i, old := range []string{"", c[0].String(), c[1].String()} {
		want(t, client.Push(repo, wire.Ref{Ref: "x", Old: old, New: c[i].String()}), wire.Published, "", "")
	}
	want(t, client.Push(repo, wire.Ref{Ref: "next", New: c[3].String()}), wire.Published, "", "")
	for _, c := range []struct {
		at, finding, note string
	}{
		{c[2].String(), "", ""},
		{c[3].String(), "", ""},
		{c[1].String(), "ref x is at " + c[1].String() + ", where it was before session ", ""},
		{c[0].String(), "", "ref x is at " + c[0].String() + ", which does not descend from " + c[2].String()},
	} {
		must.OSTree(t, "refs", "--repo="+s.Repo, "--force", c.at, "--create=x")
		findings, notes, err := publish.Inspect(t.Context(), publish.Config{Repo: s.Repo, Journal: s.Journal})
		must.OK(t, err)
		for list, want := range map[string]string{strings.Join(findings, "\n"): c.finding, strings.Join(notes, "\n"): c.note} {
			if !strings.HasPrefix(list, want) || want == "" && list != "" {
				t.Errorf("x at %s: %q, want %q", c.at, list, want)
			}
		}
	}
}
