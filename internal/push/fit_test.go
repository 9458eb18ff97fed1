// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package push_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/hint"
	"github.com/lirios/ostree-upload/internal/push"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/objects"
)

// succeed pushes, and the push has to succeed.
func (s *site) succeed() *push.Result {
	s.t.Helper()
	result, e, _ := s.run()
	if e != nil {
		s.t.Fatalf("%v (%s)", e, hint.Of(e))
	}
	return result
}

// fail pushes, and the push has to end with this exit code and words.
func (s *site) fail(exit int, words ...string) (*push.Result, *push.Error) {
	s.t.Helper()
	result, e, _ := s.run()
	if e == nil || e.Exit != exit {
		s.t.Fatalf("got %#v, want exit %d", e, exit)
	}
	for _, w := range words {
		if !strings.Contains(e.Error()+" hint: "+hint.Of(e), w) {
			s.t.Errorf("%q, hint %q, does not say %q", e, hint.Of(e), w)
		}
	}
	return result, e
}

// A push of all refs leaves out those that cannot be pushed, names them, and ends
// with exit code 3; the others are published. Named refs are refused as a whole.
func TestUnfitRefsAreLeftOut(t *testing.T) {
	s := newSite(t, "archive")
	s.limits(func(l *config.Limits) { l.MaxObjectSize = 1 << 20 })
	s.file("a", []byte("a"))
	good := s.commit("good")
	must.OSTree(t, "refs", "--repo="+s.repo, "--create=unbound", good)
	odd := s.commit("odd\u00e9")
	s.file("a", []byte("partial"))
	must.OK(t, os.MkdirAll(filepath.Join(s.repo, "state"), 0o755))
	s.mark("state/" + s.commit("partial") + ".commitpartial")
	s.file("a", []byte("damaged"))
	damaged := s.commit("damaged")
	must.OK(t, os.Remove(filepath.Join(s.repo, "objects", damaged[:2], damaged[2:]+".commit")))
	s.file("a", make([]byte, 2<<20))
	s.commit("zlarge")
	if odd == good {
		t.Fatal("two refs, one commit")
	}
	for _, dry := range []bool{true, false} {
		s.opt.DryRun = dry
		result, e := s.fail(3, "left out 5", "unbound", "damaged", "odd\u00e9", "partial", "zlarge", "max-object-size")
		if len(result.Left) != 5 || len(result.Refs) != 1 || result.Refs[0].Ref != "good" || e.Code != "refs-left-out" {
			t.Errorf("dry run %v: %+v", dry, result)
		}
	}
	if s.Ref("good") != good || s.Ref("zlarge") != "" || s.Ref("unbound") != "" {
		t.Errorf("good is %q", s.Ref("good"))
	}
	s.opt.Refs = []string{"good", "unbound"}
	s.fail(3, "ref unbound: its commit is bound")
}

// One limit of the server that its repository keeps already is no reason to refuse
// a push: what is there is not sent.
func TestLimitOfWhatIsThere(t *testing.T) {
	s := newSite(t, "archive")
	s.file("big", make([]byte, 2<<20))
	s.commit("x")
	s.succeed()
	s.limits(func(l *config.Limits) { l.MaxObjectSize, l.MaxSessionSize = 1<<20, 1<<20 })
	must.OK(t, os.RemoveAll(s.repo)) // a build host that starts afresh each time
	must.OSTree(t, "init", "--repo="+s.repo, "--mode=archive")
	s.commit("y")
	s.succeed()
}

// Metadata above 10 MiB is pushed to a server that takes it, whole and byte for byte.
func TestLargeMetadata(t *testing.T) {
	s := newSite(t, "archive")
	body := filepath.Join(t.TempDir(), "body")
	must.OK(t, os.WriteFile(body, bytes.Repeat([]byte("x"), 11<<20), 0o644))
	commit := s.commit("x", "--body-file="+body)
	s.fail(3, "10485760 bytes (10 MiB)", "max-metadata-size", commit)
	s.limits(func(l *config.Limits) { l.MaxMetadataSize = config.MostMetadata })
	s.succeed()
	if s.Ref("x") != commit {
		t.Errorf("x is %q", s.Ref("x"))
	}
}

// A repository that only pulled says which refs it has and how to push them, and
// doing what it says works.
func TestPulledRefs(t *testing.T) {
	s := newSite(t, "archive")
	from := filepath.Join(t.TempDir(), "from")
	must.OSTree(t, "init", "--repo="+from, "--mode=archive", "--collection-id=org.example.A")
	must.OSTree(t, "commit", "--repo="+from, "--branch=os/x", "--bind-ref=os/new", "--tree=dir="+s.tree)
	must.OSTree(t, "summary", "--repo="+from, "-u")
	for name, pull := range map[string][]string{
		"origin:os/x":        {"--no-gpg-verify"},
		"org.example.A:os/x": {"--no-gpg-verify", "--collection-id=org.example.A"},
	} {
		t.Run(name, func(t *testing.T) {
			repo := filepath.Join(t.TempDir(), "pulled")
			must.OSTree(t, "init", "--repo="+repo, "--mode=archive")
			must.OSTree(t, append(append([]string{"remote", "add", "--repo=" + repo}, pull...), "origin", "file://"+from)...)
			mirror := "--mirror"
			if len(pull) == 1 {
				mirror = "--disable-fsync"
			}
			must.OSTree(t, "pull", "--repo="+repo, mirror, "origin", "os/x")
			s.t, s.opt.Repo = t, repo
			for _, refs := range [][]string{nil, {"os/x"}} {
				s.opt.Refs = refs
				_, e := s.fail(1, "os/x")
				if want := "name it: ostree-upload push --repo " + repo + " " + name; hint.Of(e) != want {
					t.Errorf("hint %q, want %q", hint.Of(e), want)
				}
			}
			for _, as := range []string{"", ":os/new"} {
				s.opt.Refs = []string{name + as}
				s.succeed()
			}
			for _, ref := range []string{"os/x", "os/new"} {
				if got, want := s.Ref(ref), must.OSTree(t, "rev-parse", "--repo="+from, "os/x"); got != want {
					t.Errorf("%s is %q, want %s", ref, got, want)
				}
				must.OSTree(t, "refs", "--repo="+s.Repo, "--delete", ref)
			}
		})
	}
}

// What is pushed under another name has to be bound to that, and the error says how.
func TestPushAsOther(t *testing.T) {
	s := newSite(t, "archive")
	s.commit("os/a")
	s.opt.Refs = []string{"os/a:os/b"}
	_, e := s.fail(3, "ref os/b: its commit is bound to refs [\"os/a\"] only")
	command, _, _ := strings.Cut(strings.TrimPrefix(hint.Of(e), "make a commit that is bound to it as well: "), ";")
	commit := must.OSTree(t, strings.Fields(command)[1:]...)
	s.succeed()
	if s.Ref("os/b") != commit || s.Ref("os/a") != "" {
		t.Errorf("os/b is %q, os/a %q", s.Ref("os/b"), s.Ref("os/a"))
	}
	if r := s.succeed(); !r.NothingToDo {
		t.Errorf("once more: %+v", r)
	}
}

// What can be read in two ways is refused with both; so is one ref that is to be two.
func TestAmbiguous(t *testing.T) {
	s := newSite(t, "archive")
	for _, branch := range []string{"origin", "os/y", "other"} {
		must.OSTree(t, "commit", "--repo="+s.repo, "--no-bindings", "--branch="+branch, "--subject="+branch, "--tree=dir="+s.tree)
	}
	heads := filepath.Join(s.repo, "refs", "heads", "os", "y")
	pulled := filepath.Join(s.repo, "refs", "remotes", "origin", "os", "x")
	must.OK(t, os.MkdirAll(filepath.Dir(pulled), 0o755))
	must.OK(t, os.Rename(heads, pulled))
	commit := func(path string) string {
		b, err := os.ReadFile(filepath.Join(s.repo, "refs", path))
		must.OK(t, err)
		return strings.TrimSpace(string(b))
	}
	s.opt.Refs = []string{"origin:os/x"}
	_, e := s.fail(1, "origin:os/x is both ref os/x that was pulled (refs/remotes/origin/os/x) and local ref origin for ref os/x of the server")
	if want := "write refs/remotes/origin/os/x or refs/heads/origin:os/x"; hint.Of(e) != want {
		t.Errorf("hint %q", hint.Of(e))
	}
	for spec, from := range map[string]string{
		"refs/heads/origin:new/a": "heads/origin", "refs/remotes/origin/os/x:new/b": "remotes/origin/os/x",
		"origin:os/x:new/c": "remotes/origin/os/x", "refs/remotes/origin/os/x": "remotes/origin/os/x", "other:new/d": "heads/other",
	} {
		s.opt.Refs = []string{spec}
		s.succeed()
		ref := spec[strings.LastIndexByte(spec, ':')+1:]
		if spec == "refs/remotes/origin/os/x" {
			ref = "os/x"
		}
		if s.Ref(ref) != commit(from) {
			t.Errorf("%s: %s is %q", spec, ref, s.Ref(ref))
		}
	}
	s.opt.Refs = []string{"origin:new/e", "other:new/e"}
	s.fail(1, "ref new/e of the server is to be both origin and other")
	s.opt.Refs = []string{"nowhere:os/z"}
	s.fail(1, "has no ref nowhere, and none that was pulled as nowhere:os/z")
}

// With --skip-unfit what a push of all refs leaves out is no error, and is told.
func TestSkipUnfit(t *testing.T) {
	s := newSite(t, "archive")
	must.OSTree(t, "refs", "--repo="+s.repo, "--create=unbound", s.commit("good"))
	s.opt.SkipUnfit = true
	for range 2 {
		r := s.succeed()
		if len(r.Left) != 1 || r.Left[0].Ref != "unbound" || s.Ref("good") == "" {
			t.Errorf("%+v", r)
		}
	}
	must.OSTree(t, "refs", "--repo="+s.repo, "--delete", "good")
	if r := s.succeed(); !r.NothingToDo || len(r.Left) != 1 {
		t.Errorf("%+v", r)
	}
}

// What a push left out of the history comes with --history: parents, and detached
// metadata that older commits got later.
func TestHistory(t *testing.T) {
	s := newSite(t, "archive")
	var commits []string
	for i := range 5 {
		s.file("a", []byte(fmt.Sprint(i)))
		commits = append(commits, s.commit("x"))
	}
	s.opt.Depth = 0
	s.succeed()
	s.opt.Depth = -1
	if r := s.succeed(); !r.NothingToDo || r.OlderAbsent != 4 {
		t.Errorf("%+v", r)
	}
	s.opt.History = true
	s.succeed()
	if log := must.OSTree(t, "log", "--repo="+s.Repo, "x"); strings.Count(log, "commit ") != 5 {
		t.Errorf("the server's history:\n%s", log)
	}
	if r := s.succeed(); !r.NothingToDo || r.OlderAbsent != 0 {
		t.Errorf("once more: %+v", r)
	}
	old := commits[1]
	path := filepath.Join("objects", old[:2], old[2:]+".commitmeta")
	must.OK(t, os.WriteFile(filepath.Join(s.repo, path), objects.Dict(objects.Item("k", "s", objects.Str("a signature"))).Bytes, 0o644))
	s.succeed()
	if _, err := os.Stat(filepath.Join(s.Repo, path)); err != nil {
		t.Errorf("detached metadata of an older commit: %v", err)
	}
	s.file("a", []byte("child"))
	s.commit("x")
	if r := s.succeed(); s.Ref("x") != r.Refs[0].New {
		t.Error("a child with its history")
	}
}

// History comes also together with a new commit, behind the one that the server has.
func TestHistoryBehindAChild(t *testing.T) {
	s := newSite(t, "archive")
	for i := range 3 {
		s.file("a", []byte(fmt.Sprint(i)))
		s.commit("x")
	}
	s.opt.Depth = 0
	s.succeed()
	s.file("a", []byte("child"))
	s.commit("x")
	s.opt.Depth, s.opt.History = -1, true
	s.succeed()
	if log := must.OSTree(t, "log", "--repo="+s.Repo, "x"); strings.Count(log, "commit ") != 4 {
		t.Errorf("the server's history:\n%s", log)
	}
}

// An object that the server rejects is sent once more at most, and the error has
// the server's reason and the path. The network is blamed only for other bytes.
func TestRejectedObject(t *testing.T) {
	for _, c := range []struct {
		name   string
		spoil  func(s *site, r *http.Request) // sees each upload
		most   int                            // uploads
		words  []string
		blames bool
	}{
		{"a rule of the server", func(s *site, r *http.Request) {
			s.limits(func(l *config.Limits) { l.MaxObjectSize = 100 }) // after the client was told another one
		}, 2, []string{"the server rejected /sub/victim of ref x", "max-object-size"}, false},
		{"changed bytes", func(s *site, r *http.Request) {
			b, err := io.ReadAll(r.Body)
			must.OK(s.t, err)
			if len(b) > 120 {
				b[100] ^= 1 // in the commit, which goes first
			}
			r.Body = io.NopCloser(bytes.NewReader(b))
		}, 4, []string{"the server rejected a commit of ref x", ".commit): its checksum is"}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t, "archive")
			must.OK(t, os.Mkdir(filepath.Join(s.tree, "sub"), 0o755))
			s.file("sub/victim", bytes.Repeat([]byte("victim "), 1000))
			s.commit("x")
			to, err := url.Parse(s.opt.Server.Address)
			must.OK(t, err)
			next := httputil.NewSingleHostReverseProxy(to)
			s.opt.Jobs = 1
			uploads := 0
			front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method == "PATCH" {
					uploads++
					c.spoil(s, r)
				}
				next.ServeHTTP(w, r)
			}))
			defer front.Close()
			s.opt.Server.Address = front.URL
			_, e := s.fail(1, c.words...)
			if blames := strings.Contains(hint.Of(e), "changes bytes"); blames != c.blames || e.Code != wire.BadObjects {
				t.Errorf("%v, hint %q", e, hint.Of(e))
			}
			if uploads > c.most {
				t.Errorf("%d uploads", uploads)
			}
		})
	}
}
