// SPDX-License-Identifier: AGPL-3.0-or-later

package ostree

import (
	"bytes"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/test/must"
	build "github.com/lirios/ostree-upload/test/objects"
)

func sigs(s ...string) build.Value {
	var list []build.Value
	for _, x := range s {
		list = append(list, build.Bytes([]byte(x)...))
	}
	return build.Array(list...)
}

// TestMergeCommitMeta pins the rules of a merge: signatures add up, other values
// of the repository stand, nothing vanishes.
func TestMergeCommitMeta(t *testing.T) {
	gpg := func(s ...string) build.Value { return build.Item("ostree.gpgsigs", "aay", sigs(s...)) }
	ed := func(s ...string) build.Value { return build.Item("ostree.sign.ed25519", "aay", sigs(s...)) }
	note := func(s string) build.Value { return build.Item("note", "s", build.Str(s)) }
	odd := build.Item("ostree.gpgsigs", "s", build.Str("no list"))
	type d = []build.Value
	for name, tt := range map[string]struct{ repo, session, want d }{
		"nothing":         {nil, nil, nil},
		"new":             {nil, d{gpg("a"), note("x")}, d{gpg("a"), note("x")}},
		"kept":            {d{gpg("a"), note("x")}, nil, d{gpg("a"), note("x")}},
		"same":            {d{gpg("a", "b")}, d{gpg("b", "a")}, d{gpg("a", "b")}},
		"union":           {d{gpg("a", "b")}, d{gpg("b", "c", "c", "")}, d{gpg("a", "b", "c", "")}},
		"kinds":           {d{gpg("a")}, d{ed("a")}, d{gpg("a"), ed("a")}},
		"ours wins":       {d{note("x")}, d{note("y"), gpg("a")}, d{note("x"), gpg("a")}},
		"type of ours":    {d{odd}, d{gpg("a")}, d{odd}},
		"type of theirs":  {d{gpg("a")}, d{odd}, d{gpg("a")}},
		"duplicates stay": {d{gpg("a", "a")}, d{gpg("a")}, d{gpg("a", "a")}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := MergeCommitMeta(build.Dict(tt.repo...).Bytes, build.Dict(tt.session...).Bytes)
			if err != nil || !bytes.Equal(got, build.Dict(tt.want...).Bytes) {
				t.Errorf("got %q, %v\nwant %q", got, err, build.Dict(tt.want...).Bytes)
			}
			if err := ParseCommitMeta(got); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestMergeCommitMetaRefuses pins that neither unsound side is merged, and that
// many sessions cannot grow the result without bound.
func TestMergeCommitMetaRefuses(t *testing.T) {
	sound := build.Dict(build.Item("a", "s", build.Str("b"))).Bytes
	large := func(key string) []byte {
		return build.Dict(build.Item(key, "ay", build.Bytes(make([]byte, MaxCommitMeta/2)...))).Bytes
	}
	for want, sides := range map[string][2][]byte{
		"metadata of the repository": {[]byte("x"), sound},
		"metadata of the session":    {sound, []byte("x")},
		"would grow to":              {large("a"), large("b")},
	} {
		if _, err := MergeCommitMeta(sides[0], sides[1]); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// TestMergeRealSignatures pins the merge against what libostree writes and
// reads: two keys sign two copies of one commit, and both hold after the merge.
func TestMergeRealSignatures(t *testing.T) {
	a := newRepo(t, ModeArchive)
	c, err := a.Ref("os/test")
	must.OK(t, err)
	b := t.TempDir()
	must.OK(t, exec.Command("cp", "-a", a.Path(), b+"/repo").Run())
	sign := func(repo string, keys ...string) []byte {
		for _, k := range keys {
			ostree(t, "sign", "--repo="+repo, "--sign-type=dummy", c.String(), k)
		}
		m, err := openedRepo(t, repo).Metadata(Name{c, CommitMeta})
		must.OK(t, err)
		must.OK(t, ParseCommitMeta(m))
		return m
	}
	ours, theirs := sign(a.Path(), "first", "second"), sign(b+"/repo", "second", "third")
	merged, err := MergeCommitMeta(ours, theirs)
	must.OK(t, err)
	if again, err := MergeCommitMeta(merged, theirs); err != nil || !bytes.Equal(again, merged) {
		t.Errorf("merging twice: %v", err)
	}
	writeFile(t, a.objectPath(Name{c, CommitMeta}), merged)
	for _, k := range []string{"first", "second", "third"} {
		ostree(t, "sign", "--repo="+a.Path(), "--verify", "--sign-type=dummy", c.String(), k)
	}
	if all := sign(a.Path(), "fourth"); !bytes.Equal(all, build.Dict(build.Item("ostree.sign.dummy", "aay", sigs("first", "second", "third", "fourth"))).Bytes) {
		t.Errorf("libostree wrote %q", all)
	}
}

// TestManyKeys keeps parsing and merging from being quadratic: it would take
// minutes then.
func TestManyKeys(t *testing.T) {
	var items []build.Value
	for i := range 30_000 {
		items = append(items, build.Item(fmt.Sprint(i), "y", build.Bytes(1)))
	}
	b := build.Dict(items...).Bytes
	got, err := MergeCommitMeta(b, b)
	if err != nil || !bytes.Equal(got, b) {
		t.Error(err)
	}
}
