// SPDX-License-Identifier: AGPL-3.0-or-later

package ostree

import (
	"bytes"
	"fmt"
	"os/exec"
	"strings"
	"testing"
)

func sigs(s ...string) gv {
	var list []gv
	for _, x := range s {
		list = append(list, gBytes([]byte(x)...))
	}
	return gArray(0, list...)
}

// TestMergeCommitMeta pins the rules of a merge: signatures add up, other values
// of the repository stand, nothing vanishes.
func TestMergeCommitMeta(t *testing.T) {
	gpg := func(s ...string) gvItem { return item("ostree.gpgsigs", "aay", sigs(s...)) }
	ed := func(s ...string) gvItem { return item("ostree.sign.ed25519", "aay", sigs(s...)) }
	note := func(s string) gvItem { return item("note", "s", gStr(s)) }
	odd := item("ostree.gpgsigs", "s", gStr("no list"))
	type d = []gvItem
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
			got, err := MergeCommitMeta(gDict(tt.repo...).b, gDict(tt.session...).b)
			if err != nil || !bytes.Equal(got, gDict(tt.want...).b) {
				t.Errorf("got %q, %v\nwant %q", got, err, gDict(tt.want...).b)
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
	sound := gDict(item("a", "s", gStr("b"))).b
	large := func(key string) []byte { return gDict(item(key, "ay", gBytes(make([]byte, MaxCommitMeta/2)...))).b }
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
	must(t, err)
	b := t.TempDir()
	must(t, exec.Command("cp", "-a", a.Path(), b+"/repo").Run())
	sign := func(repo string, keys ...string) []byte {
		for _, k := range keys {
			ostree(t, "sign", "--repo="+repo, "--sign-type=dummy", c.String(), k)
		}
		m, err := openedRepo(t, repo).Metadata(Name{c, CommitMeta})
		must(t, err)
		must(t, ParseCommitMeta(m))
		return m
	}
	ours, theirs := sign(a.Path(), "first", "second"), sign(b+"/repo", "second", "third")
	merged, err := MergeCommitMeta(ours, theirs)
	must(t, err)
	if again, err := MergeCommitMeta(merged, theirs); err != nil || !bytes.Equal(again, merged) {
		t.Errorf("merging twice: %v", err)
	}
	writeFile(t, a.objectPath(Name{c, CommitMeta}), merged)
	for _, k := range []string{"first", "second", "third"} {
		ostree(t, "sign", "--repo="+a.Path(), "--verify", "--sign-type=dummy", c.String(), k)
	}
	if all := sign(a.Path(), "fourth"); !bytes.Equal(all, gDict(item("ostree.sign.dummy", "aay", sigs("first", "second", "third", "fourth"))).b) {
		t.Errorf("libostree wrote %q", all)
	}
}

// TestManyKeys keeps parsing and merging from being quadratic: it would take
// minutes then.
func TestManyKeys(t *testing.T) {
	var items []gvItem
	for i := range 30_000 {
		items = append(items, item(fmt.Sprint(i), "y", gBytes(1)))
	}
	b := gDict(items...).b
	got, err := MergeCommitMeta(b, b)
	if err != nil || !bytes.Equal(got, b) {
		t.Error(err)
	}
}
