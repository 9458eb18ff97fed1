// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package after_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/must"
	ts "github.com/lirios/ostree-upload/test/server"
)

// A host is a server with works, a build repository, and a folder for what works do.
type host struct {
	*ts.Server
	t       *testing.T
	dir     string
	build   string
	commits []ostree.Checksum // each the parent of the next, of main
	at      map[string]int    // which of them a ref names
}

func newHost(t *testing.T, after string, args ...any) *host {
	t.Helper()
	return newHostOf(t, "archive", after, args...)
}

// newHostOf is newHost of a repository of another kind.
func newHostOf(t *testing.T, kind, after string, args ...any) *host {
	t.Helper()
	h := &host{Server: ts.Start(t, kind), t: t, dir: t.TempDir(), at: map[string]int{}}
	h.build = filepath.Join(t.TempDir(), "build")
	for i := range 4 {
		h.commits = append(h.commits, ts.Commit(t, h.build, "main", fmt.Sprint(i), 3))
	}
	h.configure(after, args...)
	return h
}

// configure gives the server a list of works, in which DIR is the host's folder.
func (h *host) configure(after string, args ...any) {
	h.t.Helper()
	c, err := config.Parse([]byte("after:\n" + strings.ReplaceAll(fmt.Sprintf(after, args...), "DIR", h.dir)))
	must.OK(h.t, err)
	h.Change(func(now *config.Config) { now.After = c.After })
}

// publish moves a ref to its next commit.
func (h *host) publish(ref string) wire.Session {
	h.t.Helper()
	move := wire.Ref{Ref: ref, New: h.commits[h.at[ref]].String()}
	if n := h.at[ref]; n > 0 {
		move.Old = h.commits[n-1].String()
	}
	h.at[ref]++
	s := h.Client(h.Token).Push(h.build, move)
	if s.State != wire.Published {
		h.t.Fatalf("not published: %+v", s)
	}
	return s
}

// await waits until a work of a session is in a state.
func (h *host) await(session, work, state string) (found wire.After) {
	h.t.Helper()
	must.Wait(h.t, work+" is "+state, func() bool {
		after := h.Client(h.Token).Session(session).After
		at := slices.IndexFunc(after, func(a wire.After) bool { return a.Work == work && a.State == state })
		if at >= 0 {
			found = after[at]
		}
		return at >= 0
	})
	return found
}

func (h *host) path(name string) string { return filepath.Join(h.dir, name) }

// lines are those of a file that a work has written, none if it has not.
func (h *host) lines(name string) []string {
	h.t.Helper()
	b, err := os.ReadFile(h.path(name))
	if !os.IsNotExist(err) {
		must.OK(h.t, err)
	}
	return strings.Split(strings.TrimSpace(string(b)), "\n")
}

func (h *host) touch(name string) {
	h.t.Helper()
	must.OK(h.t, os.WriteFile(h.path(name), nil, 0o600))
}

func (h *host) awaitFile(name string) {
	h.t.Helper()
	must.Wait(h.t, "there is "+name, func() bool { _, err := os.Stat(h.path(name)); return err == nil })
}

// A command gets the sessions on its stdin and the refs in its environment, of those refs
// alone that it concerns, and is not run for others.
func TestCommand(t *testing.T) {
	h := newHost(t, `- command: [sh, -c, 'cat > DIR/in; echo "$OSTREE_REFS,$OSTREE_SESSION,$OSTREE_REPO,$OSTREE_ALL_REFS" > DIR/env']
  refs: ["os/*"]
`)
	if s := h.publish("app/x"); s.After != nil {
		t.Errorf("it follows an app: %+v", s.After)
	}
	s := h.publish("os/x")
	h.await(s.ID, "command sh", wire.WorkDone)
	var in struct {
		Work, Repository string
		Refs             []string
		Sessions         []wire.Session
	}
	must.OK(t, json.Unmarshal([]byte(strings.Join(h.lines("in"), "\n")), &in))
	if in.Work != "command sh" || in.Repository != h.Repo || !slices.Equal(in.Refs, []string{"os/x"}) ||
		len(in.Sessions) != 1 || in.Sessions[0].ID != s.ID || in.Sessions[0].Refs[0].New != h.commits[0].String() {
		t.Errorf("on its stdin: %+v", in)
	}
	if got, want := h.lines("env"), []string{"os/x," + s.ID + "," + h.Repo + ","}; !slices.Equal(got, want) {
		t.Errorf("in its environment: %q, want %q", got, want)
	}
	if _, err := os.Stat(h.path("in")); err != nil {
		t.Error(err)
	}
}

// Of a repository in a bucket a command is told where that is: on the disk there is none.
func TestCommandInBucket(t *testing.T) {
	h := newHostOf(t, ts.InBucket, `- command: [sh, -c, 'cat > DIR/in; echo "$OSTREE_REPO" > DIR/env']`)
	s := h.publish("os/x")
	h.await(s.ID, "command sh", wire.WorkDone)
	url := h.Bucket().String()
	if in, env := h.lines("in"), h.lines("env"); !slices.Equal(env, []string{url}) || !strings.Contains(in[0], `"repository":"`+url+`"`) {
		t.Errorf("it is told %q and %q, not %s", in, env, url)
	}
}

// A work that fails says so in the session, is tried again, and holds up no other; the
// one after it follows once more when it is done at last.
func TestFailedWork(t *testing.T) {
	h := newHost(t, `- command: [sh, -c, 'echo no mirror >&2; test -e DIR/mended']
- command: [/bin/sh, -c, 'echo purged >> DIR/purged']
`)
	s := h.publish("x")
	failed := h.await(s.ID, "command sh", wire.WorkFailed)
	if failed.Error != "sh failed with exit status 1: no mirror" || failed.Since.IsZero() || !failed.Next.After(failed.Since) {
		t.Errorf("it is %+v", failed)
	}
	h.await(s.ID, "command sh (2)", wire.WorkDone)
	h.touch("mended")
	h.Publisher.RetryWorks()
	h.await(s.ID, "command sh", wire.WorkDone)
	h.await(s.ID, "command sh (2)", wire.WorkDone)
	if got := h.lines("purged"); len(got) != 2 {
		t.Errorf("the second was done %d times, want once more after the first", len(got))
	}
}

// A publish does not wait for a work; publishes meanwhile share the next run.
func TestBurst(t *testing.T) {
	h := newHost(t, `- command: [sh, -c, 'echo "$OSTREE_REFS" >> DIR/runs; touch DIR/begun; while [ ! -e DIR/go ]; do sleep 0.01; done']
`)
	first := h.publish("first")
	h.awaitFile("begun")
	second, third, fourth := h.publish("x"), h.publish("x"), h.publish("y")
	h.touch("go")
	for _, s := range []wire.Session{first, second, third, fourth} {
		h.await(s.ID, "command sh", wire.WorkDone)
	}
	if got := h.lines("runs"); !slices.Equal(got, []string{"first", "x y"}) {
		t.Errorf("runs for %q", got)
	}
}

// A stop ends a work that runs, and the next start does it again.
func TestStoppedWork(t *testing.T) {
	h := newHost(t, `- command: [sh, -c, 'echo run >> DIR/runs; test -e DIR/go || exec sleep 1000']
`)
	s := h.publish("x")
	must.Wait(t, "it runs", func() bool { return h.lines("runs")[0] != "" })
	h.Stop()
	h.touch("go")
	h.Run()
	h.await(s.ID, "command sh", wire.WorkDone)
	if got := h.lines("runs"); len(got) != 2 {
		t.Errorf("it ran %d times", len(got))
	}
}

// A work that the configuration does not have any more is dropped, and one that is
// another program by now is done by that.
func TestChangedWorks(t *testing.T) {
	h := newHost(t, `- command: [/bin/sh, -c, 'exit 1']
- command: [/not/there/purge]
`)
	s := h.publish("x")
	h.await(s.ID, "command sh", wire.WorkFailed)
	if got := h.await(s.ID, "command purge", wire.WorkFailed); got.Error != "/not/there/purge is not there" {
		t.Errorf("it is %+v", got)
	}
	h.configure(`- command: [sh, -c, 'exit 0']
`)
	h.Publisher.RetryWorks()
	h.await(s.ID, "command sh", wire.WorkDone)
	h.await(s.ID, "command purge", wire.WorkDropped)
}

// Whatever a command does, its session says what, in a line, and its refs are whole.
func TestBadCommands(t *testing.T) {
	h := newHost(t, `- command: [/not/there/absent]
- command: [/bin/sh, -c, 'kill -KILL $$']
- command: [DIR/hangs]
  timeout: 5s
- command: [DIR/prints]
- command: [DIR/text]
`)
	for name, script := range map[string]string{
		"hangs":  "#!/bin/sh\ntrap '' TERM\necho hangs\nsleep 1000 & wait\nwhile :; do sleep 1; done\n",
		"prints": "#!/bin/sh\nhead -c 1000000 /dev/zero | tr '\\0' x\necho; echo the end; exit 4\n",
		"text":   "no script\n",
	} {
		must.OK(t, os.WriteFile(h.path(name), []byte(script), 0o755))
	}
	must.OK(t, os.Chmod(h.path("text"), 0o644))
	s := h.publish("x")
	for work, want := range map[string]string{
		"command absent": "/not/there/absent is not there",
		"command sh":     "/bin/sh was killed by signal 9 (killed)",
		"command hangs":  h.path("hangs") + " has not ended within 5s: hangs",
		"command prints": h.path("prints") + " failed with exit status 4: ",
		"command text":   h.path("text") + " is not executable for user ",
	} {
		failed := h.await(s.ID, work, wire.WorkFailed)
		if !strings.HasPrefix(failed.Error, want) || len(failed.Error) > 2000 || work == "command prints" && !strings.HasSuffix(failed.Error, "the end") {
			t.Errorf("%s: %q, want %q", work, failed.Error, want)
		}
	}
	if got := h.Ref("x"); got != h.commits[0].String() {
		t.Errorf("x is at %s", got)
	}
}
