// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package system

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/site"
)

// withWorks is a site with works that follow each publish, in an empty repository.
func withWorks(t *testing.T, after string) *site.Site {
	t.Helper()
	s := site.At(t, t.TempDir())
	s.MakeToken()
	s.Configure("after: " + after)
	t.Cleanup(s.End)
	s.Start("--init")
	return s
}

// pullsFrom makes an ordinary client of a site's repository, which a web server serves.
func pullsFrom(t *testing.T, s *site.Site) (repo string) {
	t.Helper()
	web := httptest.NewServer(http.FileServer(http.Dir(s.Prod)))
	t.Cleanup(web.Close)
	repo = filepath.Join(t.TempDir(), "client")
	must.OSTree(t, "init", "--repo="+repo, "--mode=bare-user-only")
	must.OSTree(t, "remote", "add", "--repo="+repo, "--no-gpg-verify", "prod", web.URL)
	return repo
}

// With nothing but the server, a client that requires static deltas installs from one
// and updates by the next: the summary lists them, also where there was none before.
func TestStaticDeltas(t *testing.T) {
	t.Parallel()
	s := withWorks(t, `[{deltas: {refs: ["os/**"], from: [parent, empty]}}]`)
	build := &site.Build{Repo: filepath.Join(s.Dir, "build"), Ref: "os/stable"}
	commits := site.Chain(t, build.Repo, build.Ref, 3)
	reader := pullsFrom(t, s)
	for _, commit := range commits {
		s.PushAs(build, build.Ref, commit, "--wait-after")
		must.OSTree(t, "pull", "--repo="+reader, "--require-static-deltas", "prod", build.Ref)
		if at := must.OSTree(t, "rev-parse", "--repo="+reader, "prod:"+build.Ref); at != commit {
			t.Errorf("the client is at %s, want %s", at, commit)
		}
	}
	must.OSTree(t, "fsck", "--repo="+reader)
	line := regexp.MustCompile(`msg="made a static delta" delta=[-0-9a-f]+ ref=os/stable bytes=\d+ took=`)
	if log := s.Server.Log.String(); len(line.FindAllString(log, -1)) != 5 {
		t.Errorf("want 5 deltas made; the log:\n%s", log)
	}
}

// onlyDelta tells whether a repository has one static delta, from nothing. While a folder
// of deltas goes, the list is an error.
func onlyDelta(s *site.Site, commit string) bool {
	list, err := site.OSTree("static-delta", "list", "--repo="+s.Prod)
	return err == nil && list == commit
}

// What a server that is killed after a publish has not made, the next start makes.
func TestDeltasAfterAKill(t *testing.T) {
	t.Parallel()
	s := withWorks(t, `[{deltas: {from: [empty]}}]`)
	build := &site.Build{Repo: filepath.Join(s.Dir, "build"), Ref: "os/stable"}
	commits := site.Chain(t, build.Repo, build.Ref, 1)
	s.Push(build)
	s.Server.Kill()
	s.Start()
	must.Wait(t, "the delta is there", func() bool { return onlyDelta(s, commits[0]) })
}

// A delta that is superseded goes when its time is over, without another push, and the
// summary lists it no more.
func TestSupersededDeltaGoes(t *testing.T) {
	t.Parallel()
	s := withWorks(t, "[{deltas: {from: [empty], keep: 2s}}]\nsession-ttl: 10s") // of which the janitor's rounds are a tenth apart
	build := &site.Build{Repo: filepath.Join(s.Dir, "build"), Ref: "os/stable"}
	commits := site.Chain(t, build.Repo, build.Ref, 2)
	for _, commit := range commits {
		s.PushAs(build, build.Ref, commit, "--wait-after")
	}
	must.Wait(t, "only the new one is there", func() bool { return onlyDelta(s, commits[1]) })
	must.Wait(t, "the summary lists it alone", func() bool {
		summary := must.OSTree(t, "summary", "--view", "--raw", "--repo="+s.Prod)
		_, deltas, _ := strings.Cut(summary, "ostree.static-deltas")
		return strings.Contains(deltas, commits[1]) && !strings.Contains(deltas, commits[0])
	})
}

// The work deltas has the summary written that names what it made. If that had failed within
// the publish, all that comes after the summary is asked for once more, deltas among them,
// while it is under way: it is done again at once, and does not stay due.
func TestSummaryThatDeltasWrite(t *testing.T) {
	t.Parallel()
	s := site.At(t, t.TempDir())
	s.MakeToken()
	s.Configure("after: [{deltas: {from: [empty]}}]")
	fail, signature := filepath.Join(s.Dir, "fail"), filepath.Join(s.Prod, "summary.sig")
	s.Configure(`sign: {command: [sh, -c, 'rm fail 2>/dev/null && exit 1; head -c 64 /dev/zero']}`)
	t.Cleanup(s.End)
	s.Start("--init")
	must.Wait(t, "there is a signed summary", func() bool { _, err := os.Stat(signature); return err == nil })
	must.OK(t, os.WriteFile(fail, nil, 0o600)) // once; nothing is signed but for the publish now
	build := &site.Build{Repo: filepath.Join(s.Dir, "build"), Ref: "os/stable"}
	commit := site.Chain(t, build.Repo, build.Ref, 1)[0]
	s.PushAs(build, build.Ref, commit, "--wait-after")
	if list := must.OSTree(t, "static-delta", "list", "--repo="+s.Prod); !strings.Contains(list, commit) {
		t.Errorf("the deltas are %s", list)
	}
	if log := s.Server.Log.String(); !strings.Contains(log, "the summary could not be written") {
		t.Errorf("it did not fail within the publish:\n%s", log)
	}
}
