// SPDX-License-Identifier: AGPL-3.0-or-later

package push

import (
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/test/must"

	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/fake"
)

// limited lets a fake server take few refs in one session, and says which sessions
// it opens.
func limited(f *fake.Server, most int) *[][]string {
	var opened [][]string
	f.Fault = func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/api/v1/info" {
			return false
		}
		fake.Reply(w, 200, wire.Info{Limits: wire.InfoLimits{MaxRefs: most}})
		return true
	}
	publish := f.Outcome
	f.Outcome = func(s *wire.Session) {
		var refs []string
		for _, r := range s.Refs {
			refs = append(refs, r.Ref)
			f.Refs[r.Ref] = wire.RefState{Commit: r.New}
		}
		opened = append(opened, refs)
		publish(s)
	}
	return &opened
}

// manyRefs is a build repository whose one commit has several refs.
func manyRefs(t *testing.T) string {
	t.Helper()
	repo, tree := filepath.Join(t.TempDir(), "repo"), t.TempDir()
	must.OSTree(t, "init", "--repo="+repo, "--mode=archive")
	write(t, filepath.Join(tree, "file"), "text")
	commit := must.OSTree(t, "commit", "--fsync=false", "--repo="+repo, "--branch="+testRef, "--no-bindings", "--tree=dir="+tree)
	for _, ref := range []string{"a", "b", "c", "d"} {
		write(t, filepath.Join(repo, "refs", "heads", ref), commit+"\n")
	}
	return repo
}

// More refs than the server takes in one session go in several, one after the other,
// with one result.
func TestPushInParts(t *testing.T) {
	f := fake.Start(t)
	opened := limited(f, 2)
	var announced []string
	opt := options(f, manyRefs(t))
	opt.OnSession = func(s wire.Session, _ bool) { announced = append(announced, s.ID) }
	result, _ := mustEnd(t, opt, 0, "")
	if got := fmt.Sprint(*opened); got != "[[a b] [c d] ["+testRef+"]]" {
		t.Errorf("sessions are for %s", got)
	}
	if len(result.Refs) != 5 || len(result.Sessions) != 3 || len(announced) != 3 {
		t.Errorf("%d refs, sessions %v, announced %v", len(result.Refs), result.Sessions, announced)
	}
	result, _ = mustEnd(t, opt, 0, "")
	if !result.NothingToDo || len(*opened) != 3 {
		t.Errorf("again: %+v", result)
	}
}

// A push that ends within its second part says so: all refs that were to move, and
// the command that goes on, which does not name one session.
func TestPushInPartsEnds(t *testing.T) {
	f := fake.Start(t)
	opened := limited(f, 2)
	publish := f.Outcome
	f.Outcome = func(s *wire.Session) {
		if publish(s); len(*opened) == 2 {
			s.State, s.Error = wire.Failed, wire.Policy
			delete(f.Refs, "c")
			delete(f.Refs, "d")
		}
	}
	opt := options(f, manyRefs(t))
	result, _ := mustEnd(t, opt, ExitRefused, wire.Policy)
	if len(result.Refs) != 5 || len(result.Sessions) != 1 {
		t.Errorf("%d refs, sessions %v", len(result.Refs), result.Sessions)
	}
	if !strings.Contains(result.ResumeWith, " push ") || strings.Contains(result.ResumeWith, "--resume") {
		t.Errorf("it goes on with %q", result.ResumeWith)
	}
	f.Outcome = publish
	mustEnd(t, opt, 0, "")
	if got := fmt.Sprint((*opened)[2:]); got != "[[c d] ["+testRef+"]]" {
		t.Errorf("the next run opens %s", got)
	}
}

// Every part fits into a request and into the server's limit, and together they are
// all moves.
func TestFitting(t *testing.T) {
	var moves []wire.Ref
	for i := range 50_000 {
		moves = append(moves, wire.Ref{Ref: fmt.Sprint("os/", strings.Repeat("x", i%150), i), Old: strings.Repeat("0", 64), New: strings.Repeat("1", 64)})
	}
	for _, most := range []int{0, 1, 7, 20_000} {
		left := moves[:min(len(moves), max(most*20, 20_000))]
		all := slices.Clone(left)
		var got []wire.Ref
		for len(left) > 0 {
			part := left[:fitting(left, most, wire.MaxBody)]
			left = left[len(part):]
			got = append(got, part...)
			if most > 0 && len(part) > most || len(part) > 15_000 {
				t.Fatalf("a part of %d refs, at most %d", len(part), most)
			}
		}
		if !slices.Equal(got, all) {
			t.Errorf("parts of at most %d are not all moves", most)
		}
	}
}
