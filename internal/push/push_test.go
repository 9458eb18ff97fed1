// SPDX-License-Identifier: AGPL-3.0-or-later

package push

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/client"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/fake"
	"github.com/lirios/ostree-upload/test/must"
)

const testRef = "os/x86_64"

// buildRepo makes an archive repository with some commits of testRef and
// returns its path and the commits, oldest first.
func buildRepo(t *testing.T, mode string, commits int) (path string, heads []string) {
	t.Helper()
	path, tree := filepath.Join(t.TempDir(), "repo"), t.TempDir()
	must.OSTree(t, "init", "--repo="+path, "--mode="+mode)
	for i := range commits {
		write(t, filepath.Join(tree, "a", "same"), strings.Repeat("same ", 5000))
		write(t, filepath.Join(tree, "b", "changes"), strings.Repeat("x", i+1))
		write(t, filepath.Join(tree, "empty"), "")
		heads = append(heads, must.OSTree(t, "commit", "--fsync=false", "--repo="+path, "--branch="+testRef, "--tree=dir="+tree))
	}
	return path, heads
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func options(f *fake.Server, repo string) Options {
	return Options{Repo: repo, Server: client.Options{Address: f.URL, Token: "sesame"}, Depth: -1, Jobs: 2}
}

// mustEnd runs a push that has to end with exit code and code.
func mustEnd(t *testing.T, opt Options, exit int, code string) (*Result, *Error) {
	t.Helper()
	result, err := Run(t.Context(), opt)
	if exit == 0 {
		if err != nil {
			t.Fatalf("exit %d: %v", err.(*Error).Exit, err)
		}
		return result, nil
	}
	var e *Error
	if !errors.As(err, &e) || e.Exit != exit || e.Code != code {
		t.Fatalf("got %#v (%v), want exit %d, code %q", err, err, exit, code)
	}
	return result, e
}

// closure is every object that a repository has.
func closure(t *testing.T, repo string) []ostree.Name {
	t.Helper()
	var names []ostree.Name
	for line := range strings.Lines(must.OSTree(t, "refs", "--repo="+repo)) {
		r, err := ostree.OpenRepo(repo)
		if err != nil {
			t.Fatal(err)
		}
		c, err := r.Ref(strings.TrimSpace(line))
		if err != nil {
			t.Fatal(err)
		}
		err = r.Walk(t.Context(), []ostree.Checksum{c}, ostree.WalkOptions{Depth: -1}, func(n ostree.Name) error {
			names = append(names, n)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return names
}

func TestPushPublishes(t *testing.T) {
	for _, mode := range []string{"archive", "bare-user"} {
		t.Run(mode, func(t *testing.T) {
			repo, heads := buildRepo(t, mode, 3)
			f := fake.Start(t)
			opt := options(f, repo)
			announced := 0
			opt.OnSession = func(s wire.Session, resumed bool) { announced++ }
			result, _ := mustEnd(t, opt, 0, "")
			all := closure(t, repo)
			for _, n := range all {
				if !f.Set[n] {
					t.Errorf("%s did not arrive", n)
				}
			}
			if result.Objects != int64(len(all)) || result.ObjectsSent != result.Objects || announced != 1 {
				t.Errorf("%+v, announced %d times", result, announced)
			}
			if want := (wire.Ref{Ref: testRef, New: heads[2]}); f.Session.Refs[0] != want {
				t.Errorf("opened for %v", f.Session.Refs)
			}
		})
	}
}

// An update sends what changed and nothing else.
func TestPushSendsOnlyChanges(t *testing.T) {
	repo, heads := buildRepo(t, "archive", 2)
	f := fake.Start(t)
	f.Refs[testRef] = wire.RefState{Commit: heads[0]}
	result, _ := mustEnd(t, options(f, repo), 0, "")
	// The commit, the root and b, and the file in b.
	if result.ObjectsSent != 4 || f.Session.Refs[0].Old != heads[0] {
		t.Errorf("sent %d objects for %v", result.ObjectsSent, f.Session.Refs)
	}
}

// A server that lists no encodings gets archive form, whatever is asked for.
func TestServerWithoutEncodings(t *testing.T) {
	repo, _ := buildRepo(t, "archive", 1)
	for _, encoding := range []string{"zstd", "delta", Auto} {
		opt := options(fake.Start(t), repo)
		opt.Encoding = encoding
		result, _ := mustEnd(t, opt, 0, "")
		if way := result.Encodings["archive"]; way.Objects != result.ObjectsSent || way.Objects == 0 || len(result.Encodings) > 1 {
			t.Errorf("%s: sent %+v", encoding, result.Encodings)
		}
	}
}

func TestNothingToDo(t *testing.T) {
	repo, heads := buildRepo(t, "archive", 1)
	f := fake.Start(t)
	f.Refs[testRef] = wire.RefState{Commit: heads[0]}
	result, _ := mustEnd(t, options(f, repo), 0, "")
	if !result.NothingToDo || f.Opened != 0 {
		t.Errorf("%+v, %d sessions", result, f.Opened)
	}
	b, err := json.Marshal(result)
	if err != nil || strings.Contains(string(b), `"session"`) {
		t.Errorf("%s, %v", b, err)
	}
}

// New detached metadata of a commit that is there travels alone; the same does not.
func TestPushOfDetachedMetadata(t *testing.T) {
	repo, heads := buildRepo(t, "archive", 1)
	// {"k": <"v">} as a{sv}: key, padding, value, type, offset of the key's end
	// in the entry, and of the entry's end in the array.
	meta := []byte("k\x00\x00\x00\x00\x00\x00\x00v\x00\x00s\x02\x0d")
	if err := ostree.ParseCommitMeta(meta); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(repo, "objects", heads[0][:2], heads[0][2:]+".commitmeta"), string(meta))
	sum := sha256.Sum256(meta)
	for _, c := range []struct {
		name, theirs string
		sent         bool
	}{
		{"theirs has none", "", true},
		{"the same", hex.EncodeToString(sum[:]), false},
		{"theirs has it and more", strings.Repeat("0", 64), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := fake.Start(t)
			f.Refs[testRef] = wire.RefState{Commit: heads[0], CommitMeta: c.theirs}
			f.Metas[heads[0]] = meta
			result, _ := mustEnd(t, options(f, repo), 0, "")
			if result.NothingToDo == c.sent || c.sent && result.ObjectsSent != 1 {
				t.Errorf("%+v", result)
			}
		})
	}
}

// What cannot succeed ends before a session is opened.
func TestPushRefusesEarly(t *testing.T) {
	repo, heads := buildRepo(t, "archive", 2)
	for _, c := range []struct {
		name   string
		change func(*Options, *fake.Server)
		exit   int
		code   string
		says   string
	}{
		{"unknown ref", func(o *Options, _ *fake.Server) { o.Refs = []string{"os/nowhere"} }, ExitFailed, "", "no ref os/nowhere"},
		{"no repository", func(o *Options, _ *fake.Server) { o.Repo = t.TempDir() }, ExitFailed, "", "no OSTree repository at"},
		{"no folder", func(o *Options, _ *fake.Server) { o.Repo = "/nowhere/repo" }, ExitFailed, "", "/nowhere/repo"},
		{"no server", func(o *Options, _ *fake.Server) { o.Server.Address = "http://127.0.0.1:1" }, ExitForNow, "gave-up", "http://127.0.0.1:1"},
		{"no address", func(o *Options, _ *fake.Server) { o.Server.Address = "localhost" }, ExitUsage, wire.BadRequest, "localhost"},
		{"server's commit unknown", func(_ *Options, f *fake.Server) {
			f.Refs[testRef] = wire.RefState{Commit: strings.Repeat("a", 64)}
		}, ExitRefused, wire.NotFastForward, testRef},
		{"server is newer", func(_ *Options, f *fake.Server) {
			f.Refs[testRef] = wire.RefState{Commit: heads[1]}
			must.OSTree(t, "reset", "--repo="+repo, testRef, heads[0])
		}, ExitRefused, wire.NotFastForward, testRef},
		{"bad token", func(_ *Options, f *fake.Server) {
			f.Fault = func(w http.ResponseWriter, _ *http.Request) bool {
				fake.Refuse(w, wire.Errorf(wire.Unauthorized, "token unknown"))
				return true
			}
		}, ExitRefused, wire.Unauthorized, "token unknown"},
		{"old session", func(o *Options, _ *fake.Server) { o.Resume = "zzzzzzzzzzzzzzzz" }, ExitFailed, wire.NotFound, "zzzzzzzzzzzzzzzz"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := fake.Start(t)
			opt := options(f, repo)
			c.change(&opt, f)
			_, e := mustEnd(t, opt, c.exit, c.code)
			if !strings.Contains(e.Error(), c.says) || f.Opened != 0 {
				t.Errorf("%v, %d sessions", e, f.Opened)
			}
		})
	}
}

func TestDryRunOpensNothing(t *testing.T) {
	repo, _ := buildRepo(t, "archive", 1)
	f := fake.Start(t)
	opt := options(f, repo)
	opt.DryRun = true
	result, _ := mustEnd(t, opt, 0, "")
	if f.Opened != 0 || result.Objects != int64(len(closure(t, repo))) || result.BytesWalked == 0 {
		t.Errorf("%+v", result)
	}
}

func TestOutcomes(t *testing.T) {
	repo, _ := buildRepo(t, "archive", 1)
	for _, c := range []struct {
		state, code string
		exit        int
	}{
		{wire.Failed, wire.RefMoved, ExitRefused},
		{wire.Failed, wire.NotFastForward, ExitRefused},
		{wire.Failed, wire.Policy, ExitRefused},
		{wire.Failed, wire.RefConflict, ExitRefused},
		{wire.Failed, wire.Forbidden, ExitRefused},
		{wire.Failed, wire.Internal, ExitFailed},
		{wire.Open, wire.InsufficientStorage, ExitForNow},
		{wire.Open, wire.Internal, ExitForNow},
		{wire.Open, wire.Forbidden, ExitRefused},
		{wire.Aborted, "", ExitFailed},
	} {
		t.Run(c.state+" "+c.code, func(t *testing.T) {
			f := fake.Start(t)
			f.Outcome = func(s *wire.Session) { s.State, s.Error, s.Detail = c.state, c.code, "because" }
			_, e := mustEnd(t, options(f, repo), c.exit, c.code)
			if !strings.Contains(e.Error(), "because") {
				t.Error(e)
			}
		})
	}
}

// What a session waits for, such as the repository's lock, is told while it waits.
func TestWaitIsTold(t *testing.T) {
	repo, _ := buildRepo(t, "archive", 1)
	f := fake.Start(t)
	f.Outcome = func(s *wire.Session) { s.State, s.Detail = wire.Verifying, "waits for the repository's lock" }
	looks := 0
	f.Fault = func(_ http.ResponseWriter, r *http.Request) bool {
		if f.Session != nil && f.Session.State == wire.Verifying && r.Method == http.MethodGet {
			if looks++; looks > 2 {
				f.Session.State, f.Session.Detail = wire.Published, ""
			}
		}
		return false
	}
	var log bytes.Buffer
	opt := options(f, repo)
	opt.Log = slog.New(slog.NewTextHandler(&log, nil))
	mustEnd(t, opt, 0, "")
	if n := strings.Count(log.String(), "the session waits for the repository's lock"); n != 1 {
		t.Errorf("told %d times:\n%s", n, &log)
	}
}

// For objects that this push does not send one other session is tried, and no
// more: the error names them then.
func TestStrayObjects(t *testing.T) {
	repo, _ := buildRepo(t, "archive", 1)
	f := fake.Start(t)
	stray := strings.Repeat("0", 64) + ".filez"
	f.Outcome = func(s *wire.Session) {
		s.State, s.Error, s.Problems = wire.Open, wire.MissingObjects, []wire.ObjectProblem{{Object: stray}}
	}
	opt, told := options(f, repo), 0
	opt.OnSession = func(wire.Session, bool) { told++ }
	_, e := mustEnd(t, opt, ExitFailed, wire.MissingObjects)
	if f.Opened != 2 || told != 2 || !strings.Contains(e.Error(), "does not send "+stray) {
		t.Errorf("%d sessions, told of %d: %v", f.Opened, told, e)
	}
}

// An earlier session for the same, which was publishing when we asked for the refs
// and over when we looked for it, is no rival: its outcome is ours.
func TestOvertakenByOurOwn(t *testing.T) {
	repo, _ := buildRepo(t, "archive", 1)
	f := fake.Start(t)
	f.Outcome = func(s *wire.Session) {
		s.State, s.Error = wire.Failed, wire.RefMoved
		for _, r := range s.Refs {
			f.Refs[r.Ref] = wire.RefState{Commit: r.New}
		}
	}
	if r, _ := mustEnd(t, options(f, repo), 0, ""); !r.NothingToDo || r.Session.ID != "" {
		t.Errorf("nothing to do %v, session %q", r.NothingToDo, r.Session.ID)
	}
}

// Objects that are sound here are sent again, but not for ever.
func TestRejectedObjectsAreSentAgain(t *testing.T) {
	repo, _ := buildRepo(t, "archive", 1)
	for _, times := range []int{1, maxRounds, maxRounds + 1} {
		f := fake.Start(t)
		finalized := 0
		f.Outcome = func(s *wire.Session) {
			if finalized++; finalized > times {
				s.State, s.Error, s.Problems = wire.Published, "", nil
				return
			}
			for n := range f.Set {
				if n.Type == ostree.File {
					f.Set[n] = false
					s.Error, s.Problems = wire.BadObjects, []wire.ObjectProblem{{Object: n.String(), Code: wire.BadObjects}}
					break
				}
			}
		}
		exit, code := 0, ""
		if times > maxRounds {
			exit, code = ExitFailed, wire.BadObjects
		}
		result, _ := mustEnd(t, options(f, repo), exit, code)
		if want := min(times, maxRounds); result.Rounds != want {
			t.Errorf("%d rounds, want %d", result.Rounds, want)
		}
	}
}

// A file that is damaged here is named; sending it again would not help.
func TestDamagedObjectIsNamed(t *testing.T) {
	repo, _ := buildRepo(t, "archive", 1)
	var bad ostree.Name
	for _, n := range closure(t, repo) {
		if n.Type == ostree.File {
			bad = n
		}
	}
	path := filepath.Join(repo, "objects", bad.Path())
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)-1] ^= 1
	if err := errors.Join(os.Remove(path), os.WriteFile(path, b, 0o644)); err != nil {
		t.Fatal(err)
	}
	f := fake.Start(t)
	f.Outcome = func(s *wire.Session) {
		s.Error, s.Problems = wire.BadObjects, []wire.ObjectProblem{{Object: bad.String(), Code: wire.BadObjects}}
	}
	_, e := mustEnd(t, options(f, repo), ExitFailed, wire.BadObjects)
	if !strings.Contains(e.Error(), bad.String()) || !strings.Contains(e.Hint(), "ostree fsck") {
		t.Errorf("%v (%s)", e, e.Hint())
	}
}

// A build repository that is pruned during the push: the object is named, and what
// to do. The first request of path finds the object gone.
func TestObjectVanishes(t *testing.T) {
	for _, c := range []struct{ mode, path string }{
		{"archive", "/objects"}, // before it is looked up
		{"archive", "/files/"},  // before it is opened
		{"bare-user", "/objects"},
	} {
		t.Run(c.mode+c.path, func(t *testing.T) {
			repo, _ := buildRepo(t, c.mode, 1)
			files, err := filepath.Glob(filepath.Join(repo, "objects", "*", "*.file*"))
			if err != nil || len(files) == 0 {
				t.Fatal(files, err)
			}
			f := fake.Start(t)
			f.Fault = func(_ http.ResponseWriter, r *http.Request) bool {
				if strings.HasSuffix(r.URL.Path, c.path) {
					os.Remove(files[0]) // again and again, of no matter
				}
				return false
			}
			_, e := mustEnd(t, options(f, repo), ExitFailed, "")
			name := filepath.Base(filepath.Dir(files[0])) + filepath.Base(files[0])[:62]
			if !strings.Contains(e.Error(), name) {
				t.Errorf("it does not name the object: %v", e)
			}
			for _, part := range []string{"pruned or changed", "ostree fsck --repo=" + repo, "--resume aaaabbbbccccdddd"} {
				if !strings.Contains(e.Hint(), part) {
					t.Errorf("hint %q", e.Hint())
				}
			}
		})
	}
}

// A session that someone else finalized meanwhile has its outcome for us too.
func TestSessionClosedUnderUs(t *testing.T) {
	repo, _ := buildRepo(t, "archive", 1)
	f := fake.Start(t)
	f.Fault = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != "PATCH" {
			return false
		}
		f.Mu.Lock()
		defer f.Mu.Unlock()
		f.Session.State = wire.Published
		fake.Refuse(w, wire.Errorf(wire.SessionClosed, "session is published"))
		return true
	}
	mustEnd(t, options(f, repo), 0, "")
}

// Many small objects go out in few packs, whatever the number of jobs.
func TestPacksAreFew(t *testing.T) {
	repo, tree := filepath.Join(t.TempDir(), "repo"), t.TempDir()
	must.OSTree(t, "init", "--repo="+repo, "--mode=archive")
	for i := range 1500 {
		write(t, filepath.Join(tree, time.Unix(int64(i), 0).UTC().Format("150405")), strings.Repeat("y", i))
	}
	must.OSTree(t, "commit", "--fsync=false", "--repo="+repo, "--branch="+testRef, "--tree=dir="+tree)
	f := fake.Start(t)
	opt := options(f, repo)
	opt.Jobs = 3
	result, _ := mustEnd(t, opt, 0, "")
	if result.ObjectsSent < 1500 || len(f.Uploads) > opt.Jobs {
		t.Errorf("%d objects in %d uploads", result.ObjectsSent, len(f.Uploads))
	}
}
