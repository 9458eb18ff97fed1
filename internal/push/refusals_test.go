// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package push_test

import (
	"encoding/hex"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/lirios/ostree-upload/internal/client"
	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/hint"
	"github.com/lirios/ostree-upload/internal/push"
	"github.com/lirios/ostree-upload/internal/token"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/journal"
	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/objects"
	ts "github.com/lirios/ostree-upload/test/server"
)

// A site is a build repository and a server that counts what it is asked to change.
type site struct {
	t    *testing.T
	repo string // the build repository
	tree string // what commit commits
	*ts.Server
	opt push.Options

	mu      sync.Mutex
	changes []string // requests that open a session or send something
}

// newSite starts a server whose repository has a mode.
func newSite(t *testing.T, mode string) *site {
	s := &site{t: t, repo: filepath.Join(t.TempDir(), "build"), tree: t.TempDir(), Server: ts.Start(t, mode)}
	to, err := url.Parse(s.URL)
	must.OK(t, err)
	proxy := httputil.NewSingleHostReverseProxy(to)
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/files/") || strings.HasPrefix(r.URL.Path, "/api/v1/sessions/") && r.Method == "POST" {
			s.mu.Lock()
			s.changes = append(s.changes, r.Method+" "+r.URL.Path)
			s.mu.Unlock()
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	s.limits(func(l *config.Limits) { l.MinFreeSpace = 0 }) // whatever else runs on this machine
	must.OSTree(t, "init", "--repo="+s.repo, "--mode=archive")
	s.opt = push.Options{Repo: s.repo, Server: client.Options{Address: front.URL, Token: s.Token}, Depth: -1}
	return s
}

// file writes a file of the tree.
func (s *site) file(name string, content []byte) {
	s.t.Helper()
	must.OK(s.t, os.WriteFile(filepath.Join(s.tree, name), content, 0o644))
}

// commit commits the tree.
func (s *site) commit(branch string, flags ...string) string {
	s.t.Helper()
	return must.OSTree(s.t, append([]string{"commit", "--repo=" + s.repo, "--branch=" + branch, "--owner-uid=0", "--owner-gid=0", "--tree=dir=" + s.tree}, flags...)...)
}

// put writes an object, and all that a commit with it needs, into the build
// repository, and makes a ref of that commit.
func (s *site) put(branch string, o objects.Object) {
	s.t.Helper()
	commit, others := objects.CommitOf(o, branch)
	for _, x := range append(others, o) {
		s.write(x)
	}
	ref := filepath.Join(s.repo, "refs/heads", branch)
	must.OK(s.t, os.WriteFile(ref, []byte(hex.EncodeToString(commit[:])), 0o644))
}

func (s *site) write(o objects.Object) {
	s.t.Helper()
	path := filepath.Join(s.repo, "objects", o.Path())
	must.OK(s.t, os.MkdirAll(filepath.Dir(path), 0o755))
	must.OK(s.t, os.WriteFile(path, o.Bytes, 0o644))
}

// limits changes the server's.
func (s *site) limits(change func(*config.Limits)) {
	s.Change(func(c *config.Config) { change(&c.Limits) })
}

// run pushes, and returns what came of it and what that changed on the server.
func (s *site) run() (*push.Result, *push.Error, []string) {
	s.t.Helper()
	s.mu.Lock()
	s.changes = nil
	s.mu.Unlock()
	result, err := push.Run(s.t.Context(), s.opt)
	var e *push.Error
	if err != nil && !errors.As(err, &e) {
		s.t.Fatalf("not an *Error: %v", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return result, e, slices.Clone(s.changes)
}

// A refusal is a push that cannot succeed.
type refusal struct {
	name  string
	mode  string // of the server's repository, archive if empty
	make  func(s *site)
	exit  int
	code  string
	words []string // of the error
}

var refusals = []refusal{
	{name: "a file above max-object-size", make: func(s *site) {
		s.limits(func(l *config.Limits) { l.MaxObjectSize = 1 << 20 })
		must.OK(s.t, os.Mkdir(filepath.Join(s.tree, "sub"), 0o755))
		s.file("sub/big", make([]byte, 2<<20)) // compressed it is far below
		s.commit("x")
	}, exit: 3, code: wire.TooLarge, words: []string{"/sub/big of ref x", ".filez", "2097152 bytes (2 MiB)", "1048576 bytes (1 MiB)", "max-object-size"}},
	{name: "a commit above max-metadata-size", make: func(s *site) {
		s.limits(func(l *config.Limits) { l.MaxMetadataSize = 64 << 10 })
		s.commit("x", "--body="+strings.Repeat("x", 80<<10))
	}, exit: 3, code: wire.TooLarge, words: []string{".commit", "65536 bytes", "max-metadata-size"}},
	{name: "a dirtree above max-metadata-size", make: func(s *site) {
		s.limits(func(l *config.Limits) { l.MaxMetadataSize = 4 << 10 })
		must.OK(s.t, os.Mkdir(filepath.Join(s.tree, "wide"), 0o755))
		for i := range 200 {
			s.file(filepath.Join("wide", strings.Repeat("n", 40)+string(rune('A'+i%26))+strings.Repeat("i", i/26)), nil)
		}
		s.commit("x")
	}, exit: 3, code: wire.TooLarge, words: []string{"/wide of ref x", ".dirtree", "4096 bytes"}},
	{name: "detached metadata that is too large", make: func(s *site) {
		commit := s.commit("x")
		path := filepath.Join(s.repo, "objects", commit[:2], commit[2:]+".commitmeta")
		must.OK(s.t, os.WriteFile(path, objects.Dict(objects.Item("k", "s", objects.Str(strings.Repeat("x", 2<<20)))).Bytes, 0o644))
	}, exit: 3, code: wire.TooLarge, words: []string{"commitmeta", "detached metadata"}},
	{name: "more than max-session-size, inflated", make: func(s *site) {
		s.limits(func(l *config.Limits) { l.MaxSessionSize = 1 << 20 })
		for i := range 20 {
			s.file(string(rune('a'+i)), append(make([]byte, 100<<10), byte(i)))
		}
		s.commit("x")
	}, exit: 3, code: wire.TooLarge, words: []string{"max-session-size", "1048576 bytes"}},
	{name: "more objects than max-objects", make: func(s *site) {
		s.limits(func(l *config.Limits) { l.MaxObjects = 20 })
		for i := range 20 {
			s.file(string(rune('a'+i)), []byte{byte(i)})
		}
		s.commit("x")
	}, exit: 3, code: wire.TooLarge, words: []string{"max-objects", "more than the 20 that"}},
	{name: "no space", make: func(s *site) {
		s.limits(func(l *config.Limits) { l.MinFreeSpace = 1 << 60 })
		s.commit("x")
	}, exit: 75, code: wire.InsufficientStorage, words: []string{"min-free-space"}},
	{name: "another collection", make: func(s *site) {
		must.OSTree(s.t, "config", "--repo="+s.Repo, "set", "core.collection-id", "org.example.Server")
		s.Stop()
		s.Run()
		s.restarted()
		must.OSTree(s.t, "config", "--repo="+s.repo, "set", "core.collection-id", "org.example.Build")
		s.commit("x")
	}, exit: 3, code: wire.Policy, words: []string{"ref x", "org.example.Build", "org.example.Server"}},
	{name: "attributes that bare-user-only does not keep", mode: "bare-user-only", make: func(s *site) {
		s.file("with", []byte("xattr"))
		must.OK(s.t, unix.Lsetxattr(filepath.Join(s.tree, "with"), "user.a", []byte("1"), 0))
		s.commit("x")
	}, exit: 3, code: wire.Policy, words: []string{"/with of ref x", "extended attributes", "bare-user-only"}},
	{name: "a mode that bare-user-only does not keep", mode: "bare-user-only", make: func(s *site) {
		s.file("suid", []byte("x"))
		must.OK(s.t, os.Chmod(filepath.Join(s.tree, "suid"), 0o755|os.ModeSetuid))
		s.commit("x")
	}, exit: 3, code: wire.Policy, words: []string{"/suid of ref x", "mode", "bare-user-only"}},
	{name: "attributes that bare-user has no room for", mode: "bare-user", make: func(s *site) {
		f := objects.SoundFile("x")
		f.Xattrs = objects.Xattrs("user.a\x00", strings.Repeat("v", 40<<10), "user.b\x00", strings.Repeat("v", 40<<10))
		s.put("x", f.Object())
	}, exit: 3, code: wire.Policy, words: []string{"/file of ref x", "extended attributes", "65536"}},
	{name: "a ref that the commit is not bound to", make: func(s *site) {
		commit := s.commit("x")
		must.OSTree(s.t, "refs", "--repo="+s.repo, "--create=y", commit)
		s.opt.Refs = []string{"y"}
	}, exit: 3, code: wire.Policy, words: []string{"ref y", `["x"]`, "ostree.ref-binding"}},
	{name: "a commit that is bound to no ref", make: func(s *site) {
		commit := must.OSTree(s.t, "commit", "--repo="+s.repo, "--orphan", "--tree=dir="+s.tree)
		must.OSTree(s.t, "refs", "--repo="+s.repo, "--create=y", commit)
		s.opt.Refs = []string{"y"}
	}, exit: 3, code: wire.Policy, words: []string{"ref y", "ostree.ref-binding"}},
	{name: "a name that is no ref's", make: func(s *site) {
		s.commit("x\u00e9")
		s.opt.Refs = []string{"x\u00e9"}
	}, exit: 3, code: wire.Policy, words: []string{"it contains"}},
	{name: "a folder of a ref of the server", make: func(s *site) {
		s.serverHas("x/y")
		s.commit("x")
	}, exit: 3, code: wire.RefConflict, words: []string{"ref x cannot be beside ref x/y"}},
	{name: "a ref below a ref of the server", make: func(s *site) {
		s.serverHas("x")
		s.commit("x/y/z")
	}, exit: 3, code: wire.RefConflict, words: []string{"ref x cannot be beside ref x/y/z"}},
	{name: "a folder of a ref that the token does not see", make: func(s *site) {
		s.serverHas("other")
		s.commit("other/x")
		s.opt.Server.Token = s.Other
	}, exit: 3, code: wire.RefConflict, words: []string{"other", "folder"}},
	{name: "a name that no file system takes", make: func(s *site) {
		s.put("x", objects.Metadata("dirtree", objects.Files(strings.Repeat("n", 256))))
	}, exit: 3, code: wire.TooLarge, words: []string{"256 bytes", "no file system takes more than 255"}},
	{name: "a name of an attribute that no file system takes", make: func(s *site) {
		f := objects.SoundFile("x")
		f.Xattrs = objects.Xattrs("user."+strings.Repeat("n", 300)+"\x00", strings.Repeat("v", 66_000))
		s.put("x", f.Object())
	}, exit: 3, code: wire.TooLarge, words: []string{"/file of ref x", "305 bytes"}},
	{name: "a path that Linux does not open", make: func(s *site) {
		tree, meta := objects.Metadata("dirtree", objects.Tree(nil, nil)), objects.SoundDirMeta()
		s.write(meta)
		for range 17 {
			s.write(tree)
			entry := objects.Entry(strings.Repeat("d", 250), tree.Sum[:], meta.Sum[:])
			tree = objects.Metadata("dirtree", objects.Tree(nil, []objects.Value{entry}))
		}
		s.put("x", tree)
	}, exit: 3, code: wire.TooLarge, words: []string{"4095 bytes"}},
	{name: "force without the scope", make: func(s *site) {
		s.commit("x")
		s.opt.Force = true
	}, exit: 3, code: wire.Forbidden, words: []string{"token ci may not force"}},
	{name: "a ref that the token may not push", make: func(s *site) {
		s.commit("x")
		s.opt.Server.Token = s.Other
	}, exit: 3, code: wire.Forbidden, words: []string{"token other may not push ref x"}},
	{name: "a token that may not push", make: func(s *site) {
		s.commit("x")
		s.opt.Server.Token = s.AddToken(token.Options{Name: "viewer", Scopes: []string{token.Sessions}})
	}, exit: 3, code: wire.Forbidden, words: []string{"token viewer may not push"}},
	{name: "not a fast-forward", make: func(s *site) {
		s.serverHas("x")
		s.commit("x")
	}, exit: 3, code: wire.NotFastForward, words: []string{"ref x: not a fast-forward"}},
	{name: "a commit that is here in part", make: func(s *site) {
		commit := s.commit("x")
		must.OK(s.t, os.MkdirAll(filepath.Join(s.repo, "state"), 0o755))
		s.mark("state/" + commit + ".commitpartial")
	}, exit: 1, words: []string{"ref x", "commitpartial"}},
	{name: "a file that is missing here", make: func(s *site) {
		s.file("a", []byte("a"))
		s.commit("x")
		found, err := filepath.Glob(filepath.Join(s.repo, "objects/*/*.filez"))
		must.OK(s.t, errors.Join(err, os.Remove(found[0])))
	}, exit: 1, words: []string{".filez is not in repository"}},
	{name: "a dirtree that is damaged here", make: func(s *site) {
		s.commit("x")
		found, err := filepath.Glob(filepath.Join(s.repo, "objects/*/*.dirtree"))
		must.OK(s.t, errors.Join(err, os.Remove(found[0]), os.WriteFile(found[0], []byte("damage"), 0o644)))
	}, exit: 1, code: wire.BadObjects, words: []string{".dirtree", "damaged"}},
}

// mark makes an empty file in the build repository.
func (s *site) mark(name string) {
	s.t.Helper()
	must.OK(s.t, os.WriteFile(filepath.Join(s.repo, name), nil, 0o644))
}

// serverHas gives the server a ref that the build repository knows nothing of.
func (s *site) serverHas(ref string) {
	s.t.Helper()
	other := filepath.Join(s.t.TempDir(), "other")
	commit := ts.Commit(s.t, other, ref, "salt", 3)
	c := s.Client(s.Token)
	c.Push(other, wire.Ref{Ref: ref, New: commit.String()})
}

// restarted sends what comes to the server's new address.
func (s *site) restarted() { s.opt.Server.Address = s.URL }

// What a push cannot bring is refused before the first byte and before there is a
// session, with the path, the object and the limit; a dry run finds the same.
func TestRefusedBeforeAnythingIsSent(t *testing.T) {
	for _, c := range refusals {
		t.Run(c.name, func(t *testing.T) {
			mode := c.mode
			if mode == "" {
				mode = "archive"
			}
			s := newSite(t, mode)
			c.make(s)
			var said [2]string
			for i, dry := range []bool{true, false} {
				s.opt.DryRun = dry
				_, e, changes := s.run()
				if e == nil || e.Exit != c.exit || e.Code != c.code {
					t.Fatalf("dry run %v: got %#v, want exit %d, code %q", dry, e, c.exit, c.code)
				}
				for _, w := range c.words {
					if !strings.Contains(e.Error(), w) {
						t.Errorf("dry run %v: %q does not say %q", dry, e, w)
					}
				}
				if hint.Of(e) == "" {
					t.Errorf("no hint with %q", e)
				}
				if len(changes) > 0 {
					t.Errorf("dry run %v: it asked for %q", dry, changes)
				}
				said[i] = e.Error()
			}
			if said[0] != said[1] {
				t.Errorf("a dry run says %q, the push %q", said[0], said[1])
			}
			if list, err := s.Journal.Sessions(nil); err == nil && slices.ContainsFunc(list, func(x journal.Session) bool { return string(x.State) == wire.Open }) {
				t.Error("a session is left open")
			}
		})
	}
}
