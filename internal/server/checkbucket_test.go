// SPDX-License-Identifier: AGPL-3.0-or-later

package server_test

import (
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/lirios/ostree-upload/internal/mirror"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/server"
	"github.com/lirios/ostree-upload/internal/wire"
	ts "github.com/lirios/ostree-upload/test/server"
	"github.com/lirios/ostree-upload/test/store"
)

// fileOf is an object of a file that one commit has and the others have not.
func fileOf(t *testing.T, repo string, commit ostree.Checksum, others ...ostree.Checksum) ostree.Name {
	t.Helper()
	all := ts.Objects(t, repo, others...)
	for _, n := range ts.Objects(t, repo, commit) {
		if n.Type == ostree.File && !slices.Contains(all, n) {
			return n
		}
	}
	t.Fatalf("commit %s has no file of its own", commit)
	return ostree.Name{}
}

// Beside other servers, what is gone from the bucket is a note, and what a ref needs of it a
// finding: also of a ref that another server has moved.
func TestCheckBesideServers(t *testing.T) {
	store.SetCredentials(t)
	url := store.Fake(t, store.FakeOptions{})
	one, two := ts.StartAt(t, url, store.FakeBucket), ts.StartAt(t, url, store.FakeBucket)
	build := filepath.Join(t.TempDir(), "build")
	older, newer, other := ts.Commit(t, build, "x", "older", 5), ts.Commit(t, build, "x", "newer", 5), ts.Commit(t, build, "y", "other", 5)
	for _, move := range []struct {
		by  *ts.Server
		ref wire.Ref
	}{
		{one, wire.Ref{Ref: "x", New: older.String()}},
		{one, wire.Ref{Ref: "x", Old: older.String(), New: newer.String()}},
		{two, wire.Ref{Ref: "y", New: other.String()}},
	} {
		if got := move.by.Client(move.by.Token).Push(build, move.ref); got.State != wire.Published {
			t.Fatalf("%+v", got)
		}
	}
	one.Stop()
	t.Cleanup(one.Run)
	if findings, _ := checked(t, one, false); findings != "" {
		t.Errorf("before anything is gone: %q", findings)
	}
	for _, tt := range []struct {
		gone    ostree.Name
		finding string
	}{
		{fileOf(t, build, older, newer, other), ""},
		{fileOf(t, build, newer, older, other), "ref x, commit " + newer.String() + ": object "},
		{fileOf(t, build, other, older, newer), "ref y, commit " + other.String() + ": object "},
	} {
		was := two.Held(tt.gone)
		two.Lose(tt.gone)
		findings, notes := checked(t, one, false)
		if (findings != "") != (tt.finding != "") || !strings.HasPrefix(findings, tt.finding) || strings.Count(findings, "\n") > 0 {
			t.Errorf("findings %q, want %q", findings, tt.finding)
		}
		if !strings.Contains(notes, "object "+tt.gone.String()+" is gone from the bucket, as others prune there") {
			t.Errorf("notes %q", notes)
		}
		two.Overwrite(tt.gone, was)
		if findings, notes := checked(t, one, false); findings != "" || !strings.Contains(notes, "that were not known here, as others have written them: 1") {
			t.Errorf("when it is there again: findings %q, notes %q", findings, notes)
		}
	}
}

// A ref that another server moves while this one checks is looked at as it is then: what was
// pushed meanwhile is no finding.
func TestCheckWhileOthersPush(t *testing.T) {
	store.SetCredentials(t)
	url := store.Fake(t, store.FakeOptions{})
	proxy := store.NewProxy(t, url)
	one, two := ts.StartAt(t, proxy.URL, store.FakeBucket), ts.StartAt(t, url, store.FakeBucket)
	build := filepath.Join(t.TempDir(), "build")
	first, second := ts.Commit(t, build, "x", "first", 5), ts.Commit(t, build, "x", "second", 5)
	push := func(by *ts.Server, ref wire.Ref) {
		t.Helper()
		if got := by.Client(by.Token).Push(build, ref); got.State != wire.Published {
			t.Fatalf("%+v", got)
		}
	}
	push(one, wire.Ref{Ref: "x", New: first.String()})
	one.Stop()
	t.Cleanup(one.Run)
	reached, pushed, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	var once sync.Once
	proxy.Play(func(r store.Request) *store.Fault {
		if r.Kind == "GetObject" && strings.HasSuffix(r.Key, mirror.RefKey("x")) { // the objects were listed before
			once.Do(func() {
				close(reached)
				<-pushed
			})
		}
		return nil
	})
	var report *server.Report
	go func() {
		var err error
		report, err = server.Check(t.Context(), one.Options(), false)
		ended <- err
	}()
	select {
	case <-reached:
	case err := <-ended:
		t.Fatalf("it read no ref: %v", err)
	}
	func() {
		defer close(pushed)
		push(two, wire.Ref{Ref: "x", Old: first.String(), New: second.String()})
	}()
	if err := <-ended; err != nil || len(report.Findings) > 0 {
		t.Errorf("findings %q, %v", report.Findings, err)
	}
}
