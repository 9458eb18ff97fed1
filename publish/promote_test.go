// SPDX-License-Identifier: AGPL-3.0-or-later

package publish_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/token"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/must"
	ts "github.com/lirios/ostree-upload/test/server"
)

// promoted starts a server that has commits, each the child of the one before, under
// the ref testing, and returns a client of scope promote and one that may delete, too.
func promoted(t *testing.T, kind string, salts ...string) (s *ts.Server, promote, deleting *ts.Client, c []string) {
	t.Helper()
	repo, commits := build(t, salts...)
	s = ts.Start(t, kind)
	s.MakeSummary()
	old := ""
	for _, commit := range commits {
		want(t, s.Client(s.Token).Push(repo, wire.Ref{Ref: "testing", Old: old, New: commit.String()}), wire.Published, "", "")
		old = commit.String()
		c = append(c, old)
	}
	promote = s.Client(s.AddToken(token.Options{Name: "release", Scopes: []string{token.Promote}}))
	deleting = s.Client(s.AddToken(token.Options{Name: "tidy", Scopes: []string{token.Promote, token.Delete}}))
	return s, promote, deleting, c
}

// names are the refs that the repository has, and those that its summary lists.
func names(t *testing.T, s *ts.Server) (refs, summary string) {
	t.Helper()
	var listed []string
	local := s.Local()
	for line := range strings.Lines(must.OSTree(t, "summary", "--view", "--repo="+local)) {
		if name, is := strings.CutPrefix(strings.TrimSpace(line), "* "); is {
			listed = append(listed, name)
		}
	}
	return strings.Join(slices.Sorted(slices.Values(strings.Fields(must.OSTree(t, "refs", "--repo="+s.Repo)))), " "), strings.Join(listed, " ")
}

// A session that brings nothing moves refs among commits that are there: to a new ref,
// forward, back if it is forced, and several refs at once or none.
func TestPromote(t *testing.T) { onBoth(t, testPromote) }

func testPromote(t *testing.T, kind string) {
	s, release, _, c := promoted(t, kind, "one", "two", "three")
	want(t, release.Promote(false, wire.Ref{Ref: "stable", New: c[0]}), wire.Published, "", "")
	session := release.Promote(false, wire.Ref{Ref: "stable", Old: c[0], New: c[2]}, wire.Ref{Ref: "beta", New: c[2]})
	want(t, session, wire.Published, "", "")
	if session.Objects.Known != 0 || session.Bytes.Received != 0 || !session.Promote {
		t.Errorf("the session is %+v", session)
	}
	if refs, summary := names(t, s); refs != "beta stable testing" || summary != refs || s.Ref("stable") != c[2] {
		t.Errorf("refs %s, summary %s", refs, summary)
	}
	back := wire.Ref{Ref: "stable", Old: c[2], New: c[1]}
	want(t, release.Promote(false, back), wire.Failed, wire.NotFastForward, "does not descend")
	want(t, release.Promote(false, wire.Ref{Ref: "stable", Old: c[1], New: c[2]}, wire.Ref{Ref: "new", New: c[2]}), wire.Failed, wire.RefMoved, "stable is at "+c[2])
	want(t, release.Promote(true, back), wire.Published, "", "")
	if s.Ref("stable") != c[1] || s.Ref("new") != "" {
		t.Errorf("stable is at %s, new at %s", s.Ref("stable"), s.Ref("new"))
	}
}

// What is not whole in the repository is refused by its name: a commit that is not there
// or marked as partial when the session is opened, one that lacks a file for good when it
// is published. What others have staged is not there.
func TestPromoteOfWhatIsNotThere(t *testing.T) {
	s, release, _, c := promoted(t, "archive", "one", "two")
	nowhere := strings.Repeat("7", 64)
	wantProblem(t, release.TryOpen(wire.OpenRequest{Promote: true, Refs: []wire.Ref{{Ref: "stable", New: nowhere}}}), wire.MissingObjects, "ref stable: commit "+nowhere+" is not in the repository")

	repo, staged := build(t, "held")
	push := s.Client(s.Token)
	session := push.Open(wire.Ref{Ref: "held", New: staged[0].String()})
	push.Upload(session.ID, "all", ts.Pack(t, repo, push.Negotiate(session.ID, ts.Objects(t, repo, staged...)...)...))
	push.Negotiate(session.ID, ts.Objects(t, repo, staged...)...) // waits for the ingest
	wantProblem(t, release.TryOpen(wire.OpenRequest{Promote: true, Refs: []wire.Ref{{Ref: "stable", New: staged[0].String()}}}), wire.MissingObjects, "is not in the repository")

	mark := filepath.Join(s.Repo, "state", c[0]+".commitpartial")
	must.OK(t, os.WriteFile(mark, nil, 0o644))
	wantProblem(t, release.TryOpen(wire.OpenRequest{Promote: true, Refs: []wire.Ref{{Ref: "stable", New: c[0]}}}), wire.MissingObjects, "ref stable: commit "+c[0]+" is only partly in repository")
	must.OK(t, os.Remove(mark))

	file := fileOf(t, s.Repo, c[1])
	must.OK(t, os.Rename(file, file+".gone"))
	got := release.Promote(false, wire.Ref{Ref: "fine", New: c[0]}, wire.Ref{Ref: "stable", New: c[1]})
	want(t, got, wire.Failed, wire.MissingObjects, "ref stable: commit "+c[1]+" is not whole in the repository: 1 objects are missing or damaged, one of them ")
	if len(got.Problems) != 1 || s.Ref("fine") != "" {
		t.Errorf("problems %v, fine at %q", got.Problems, s.Ref("fine"))
	}
	must.OK(t, os.Rename(file+".gone", file))
	want(t, release.Promote(false, wire.Ref{Ref: "stable", New: c[1]}), wire.Published, "", "")
}

// fileOf is the file of content that no commit but this one needs.
func fileOf(t *testing.T, repo, commit string) string {
	t.Helper()
	sum, err := ostree.ParseChecksum(commit)
	must.OK(t, err)
	r, err := ostree.OpenRepo(repo)
	must.OK(t, err)
	parent, err := r.Parent(sum)
	must.OK(t, err)
	shared := map[ostree.Name]bool{}
	for _, n := range ts.Objects(t, repo, *parent) {
		shared[n] = true
	}
	for _, n := range ts.Objects(t, repo, sum) {
		if n.Type == ostree.File && !shared[n] {
			return filepath.Join(repo, "objects", n.Path())
		}
	}
	t.Fatal("there is none")
	return ""
}

// Bindings hold for moves as for pushes, and the refusal says what to do.
func TestPromoteOfBound(t *testing.T) {
	s, release, _, _ := promoted(t, "archive", "one")
	tree := t.TempDir()
	bound := must.OSTree(t, "commit", "--repo="+s.Repo, "--branch=testing", "--bind-ref=stable", "--tree=dir="+tree)
	want(t, release.Promote(false, wire.Ref{Ref: "stable", New: bound}), wire.Published, "", "")
	a := release.TryOpen(wire.OpenRequest{Promote: true, Refs: []wire.Ref{{Ref: "beta", New: bound}}})
	wantProblem(t, a, wire.Policy, `ref beta: the commit is bound to refs ["stable" "testing"] only`)
	if hint := a.Problem(t).HintIs; !strings.Contains(hint, "--bind-ref") {
		t.Errorf("the hint is %q", hint)
	}
}

// A ref that is deleted is gone, with the folders that are empty without it, and from the
// summary. Whoever comes late is told.
func TestDelete(t *testing.T) {
	s, release, tidy, c := promoted(t, "archive", "one", "two")
	for _, ref := range []string{"os/x86_64/stable", "os/arm/stable", "os/arm/beta"} {
		want(t, release.Promote(false, wire.Ref{Ref: ref, New: c[1]}), wire.Published, "", "")
	}
	want(t, tidy.Promote(false, wire.Ref{Ref: "os/x86_64/stable", Old: c[0]}), wire.Failed, wire.RefMoved, "is at "+c[1])
	want(t, tidy.Promote(false, wire.Ref{Ref: "os/x86_64/stable", Old: c[1]}, wire.Ref{Ref: "os/arm/beta", Old: c[1]}), wire.Published, "", "")
	want(t, tidy.Promote(false, wire.Ref{Ref: "os/arm/beta", Old: c[1]}), wire.Failed, wire.RefMoved, "is at no commit")
	if refs, summary := names(t, s); refs != "os/arm/stable testing" || summary != refs {
		t.Errorf("refs %s, summary %s", refs, summary)
	}
	if left, err := os.ReadDir(filepath.Join(s.Repo, "refs/heads/os")); err != nil || len(left) != 1 {
		t.Errorf("in os/ there is %v, %v", left, err)
	}
	want(t, tidy.Promote(false, wire.Ref{Ref: "os/arm/stable", Old: c[1]}), wire.Published, "", "")
	if _, err := os.Stat(filepath.Join(s.Repo, "refs/heads/os")); !os.IsNotExist(err) {
		t.Errorf("os/ is still there: %v", err)
	}
	findings, err := s.Journal.LastMoves([]string{"os/arm/stable"})
	if m := findings["os/arm/stable"]; err != nil || m.Old != c[1] || m.New != "" || m.Token != "tidy" {
		t.Errorf("the log has %+v, %v", m, err)
	}
}

// A ref gives way to refs below its name, and those to it, in one session.
func TestRefGivesWay(t *testing.T) { onBoth(t, testRefGivesWay) }

func testRefGivesWay(t *testing.T, kind string) {
	s, _, tidy, c := promoted(t, kind, "one")
	want(t, tidy.Promote(false, wire.Ref{Ref: "a", New: c[0]}), wire.Published, "", "")
	want(t, tidy.Promote(false, wire.Ref{Ref: "a/b/c", New: c[0]}, wire.Ref{Ref: "a", Old: c[0]}, wire.Ref{Ref: "a/d", New: c[0]}), wire.Published, "", "")
	if refs, summary := names(t, s); refs != "a/b/c a/d testing" || summary != refs {
		t.Errorf("refs %s, summary %s", refs, summary)
	}
	if a := tidy.TryOpen(wire.OpenRequest{Promote: true, Refs: []wire.Ref{{Ref: "a", New: c[0]}, {Ref: "a/d", Old: c[0]}}}); a.Status != 422 {
		t.Errorf("beside a/b/c: %d %s", a.Status, a.Body)
	}
	want(t, tidy.Promote(false, wire.Ref{Ref: "a", New: c[0]}, wire.Ref{Ref: "a/d", Old: c[0]}, wire.Ref{Ref: "a/b/c", Old: c[0]}), wire.Published, "", "")
	if refs, _ := names(t, s); refs != "a testing" {
		t.Errorf("refs %s", refs)
	}
}

// A ref that an alias needs is not deleted, nor is the alias, and neither is one that was
// made an alias since.
func TestDeleteBesideAlias(t *testing.T) {
	s, _, tidy, c := promoted(t, "archive", "one")
	opened := func(ref string) wire.OpenRequest {
		return wire.OpenRequest{Refs: []wire.Ref{{Ref: ref, Old: c[0]}}}
	}
	a := tidy.TryOpen(opened("testing"))
	if a.Status != 201 {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	id := strings.TrimPrefix(a.Header.Get("Location"), "sessions/")
	must.OSTree(t, "refs", "--repo="+s.Repo, "--alias", "testing", "--create=stable")
	want(t, tidy.Finalize(id), wire.Failed, wire.Policy, "ref testing cannot be deleted: stable is an alias of it")
	wantProblem(t, tidy.TryOpen(opened("testing")), wire.Policy, "ref testing cannot be deleted: stable is an alias of it")
	wantProblem(t, tidy.TryOpen(opened("stable")), wire.Policy, "ref stable is an alias of testing")
	if s.Ref("testing") != c[0] || s.Ref("stable") != c[0] {
		t.Error("one is gone")
	}
}

// A thousand refs move in one session, of which nothing travels, and the summary is
// written once.
func TestPromoteOfMany(t *testing.T) { onBoth(t, testPromoteOfMany) }

func testPromoteOfMany(t *testing.T, kind string) {
	s, release, tidy, c := promoted(t, kind, "one", "two")
	var refs, gone []wire.Ref
	for i := range 1000 {
		refs = append(refs, wire.Ref{Ref: fmt.Sprintf("os/%d/stable", i), New: c[i%2]})
		gone = append(gone, wire.Ref{Ref: refs[i].Ref, Old: refs[i].New})
	}
	got := release.Promote(false, refs...)
	want(t, got, wire.Published, "", "")
	if got.RefCount != 1000 || got.Objects.Known != 0 {
		t.Errorf("%d refs, %+v", got.RefCount, got.Objects)
	}
	if _, summary := names(t, s); len(strings.Fields(summary)) != 1001 {
		t.Errorf("the summary has %d refs", len(strings.Fields(summary)))
	}
	want(t, tidy.Promote(false, gone...), wire.Published, "", "")
	if refs, summary := names(t, s); refs != "testing" || summary != refs {
		t.Errorf("refs %s, summary %s", refs, summary)
	}
}
