// SPDX-License-Identifier: AGPL-3.0-or-later

package publish_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/token"
	"github.com/lirios/ostree-upload/internal/units"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/gpg"
	"github.com/lirios/ostree-upload/test/must"
	ts "github.com/lirios/ostree-upload/test/server"
)

// A checked host is a server with a check-command, a shell script in which DIR is a folder
// for what it leaves and finds.
type checkedHost struct {
	*ts.Server
	t       *testing.T
	dir     string
	build   string
	commits []ostree.Checksum
}

func newCheckedHost(t *testing.T, mode, script string, salts ...string) *checkedHost {
	t.Helper()
	h := &checkedHost{Server: ts.Start(t, mode), t: t, dir: t.TempDir()}
	h.build, h.commits = build(t, salts...)
	h.check("sh", "-c", strings.ReplaceAll(script, "DIR", h.dir), "check")
	return h
}

func (h *checkedHost) check(command ...string) {
	h.Change(func(c *config.Config) { c.CheckCommand, c.CheckTimeout = command, units.Duration(time.Minute) })
}

// send opens a session that moves a ref to a commit, and sends all that it lacks.
func (h *checkedHost) send(client *ts.Client, ref string, old string, commit ostree.Checksum) wire.Session {
	h.t.Helper()
	s := client.Open(wire.Ref{Ref: ref, Old: old, New: commit.String()})
	if lacking := client.Negotiate(s.ID, ts.Objects(h.t, h.build, commit)...); len(lacking) > 0 {
		client.Upload(s.ID, "all", ts.Pack(h.t, h.build, lacking...))
	}
	return s
}

func (h *checkedHost) start(client *ts.Client, id string) {
	h.t.Helper()
	client.Want(202, "POST", "/api/v1/sessions/"+id+"/finalize", nil)
}

func (h *checkedHost) await(name string) {
	h.t.Helper()
	must.Wait(h.t, "there is "+name, func() bool { _, err := os.Stat(filepath.Join(h.dir, name)); return err == nil })
}

func (h *checkedHost) touch(name string) {
	h.t.Helper()
	must.OK(h.t, os.WriteFile(filepath.Join(h.dir, name), nil, 0o600))
}

func (h *checkedHost) read(name string) string {
	h.t.Helper()
	b, err := os.ReadFile(filepath.Join(h.dir, name))
	must.OK(h.t, err)
	return string(b)
}

// noViews is a failure if a view of a session is left.
func (h *checkedHost) noViews() {
	h.t.Helper()
	if left, err := filepath.Glob(filepath.Join(h.State, "checks/*")); err != nil || len(left) > 0 {
		h.t.Errorf("left are %q, %v", left, err)
	}
}

// lookAround reads the new commit by the commands of ostree, as a check does. Some of its
// objects are in the repository, whatever its mode, and some are staged.
const lookAround = `set -e
cat > DIR/in
echo "$OSTREE_REFS $OSTREE_SESSION" > DIR/env
test "$1" = "$OSTREE_REPO"
test "$(pwd -P)" = "$(realpath "$1")"
ostree refs --repo="$1" > DIR/refs
ostree ls -R --repo="$1" x > DIR/ls
ostree cat --repo="$1" x /dir1/file1 > DIR/cat
ostree diff --repo="$1" x^ x > DIR/diff
ostree show --repo="$1" x > DIR/show
rm -rf DIR/tree
ostree checkout --user-mode --repo="$1" x DIR/tree
ostree fsck --repo="$1" --quiet
`

// A check reads all of a commit before it is published, whatever the mode of the
// repository that has the rest of it, with the session and its signatures.
func TestCheckReadsCommits(t *testing.T) {
	for _, mode := range []string{"archive", "bare-user", "bare"} {
		t.Run(mode, func(t *testing.T) {
			if mode == "bare" && os.Geteuid() != 0 {
				t.Skip("only root writes to a bare repository")
			}
			h := newCheckedHost(t, mode, lookAround, "one", "two")
			client := h.Client(h.Token)
			h.check()
			want(t, client.Push(h.build, wire.Ref{Ref: "x", New: h.commits[0].String()}), wire.Published, "", "")
			h.check("sh", "-c", strings.ReplaceAll(lookAround, "DIR", h.dir), "check")
			gpg.New(t).Sign(h.build, h.commits[1].String(), 0)
			s := h.send(client, "x", h.commits[0].String(), h.commits[1])
			want(t, client.Finalize(s.ID), wire.Published, "", "")
			must.OSTree(t, "checkout", "--user-mode", "--repo="+h.build, h.commits[1].String(), filepath.Join(h.dir, "want"))
			must.Run(t, "diff", "-r", filepath.Join(h.dir, "want"), filepath.Join(h.dir, "tree"))
			if got := h.read("cat"); got != "file 1\ntwo" {
				t.Errorf("cat: %q", got)
			}
			if got := h.read("diff"); !strings.Contains(got, "M    /dir0/file0\n") {
				t.Errorf("diff: %s", got)
			}
			if got := h.read("show"); !strings.Contains(got, "commit "+h.commits[1].String()) || !strings.Contains(got, "Found 1 signature") {
				t.Errorf("show: %s", got)
			}
			var in wire.Session
			must.OK(t, json.Unmarshal([]byte(h.read("in")), &in))
			if in.ID != s.ID || in.Refs[0].New != h.commits[1].String() || in.Token != "ci" {
				t.Errorf("on its stdin: %+v", in)
			}
			if got, want := h.read("env"), "x "+s.ID+"\n"; got != want {
				t.Errorf("in its environment: %q, want %q", got, want)
			}
			h.noViews()
		})
	}
}

// Only the consent of the check lets a session go on, and its pusher gets its words.
func TestCheckRefuses(t *testing.T) {
	h := newCheckedHost(t, "archive", "", "one")
	client := h.Client(h.Token)
	gone := filepath.Join(h.dir, "gone")
	for _, c := range []struct {
		name              string
		command           []string
		state, code, want string
	}{
		{"words", []string{"sh", "-c", `echo not for you; printf 'no licence in \033[31m/usr/share\n\nask legal\n' >&2; exit 3`},
			wire.Failed, wire.Policy, "the server's check refused it (sh, exit status 3): no licence in ?[31m/usr/share; ask legal"},
		{"nothing", []string{"false"}, wire.Failed, wire.Policy, "the server's check refused it (false, exit status 1)"},
		{"a megabyte", []string{"sh", "-c", `yes no | head -c 1000000 >&2; exit 1`}, wire.Failed, wire.Policy, "): no; no;"},
		{"killed", []string{"sh", "-c", `kill -9 $$`}, wire.Failed, wire.Policy, "did not come to an end, which counts as a refusal: sh was killed by signal 9"},
		{"not there", []string{gone}, wire.Open, wire.Internal, "check-command cannot be run, and without it nothing is published: " + gone + " is not there"},
	} {
		h.check(c.command...)
		s := h.send(client, "x", "", h.commits[0])
		got := client.Finalize(s.ID)
		want(t, got, c.state, c.code, c.want)
		if len(got.Detail) > 3000 {
			t.Errorf("%s: %d bytes", c.name, len(got.Detail))
		}
	}
	h.Change(func(c *config.Config) {
		c.CheckCommand, c.CheckTimeout = []string{"sh", "-c", "sleep 1000"}, units.Duration(time.Millisecond)
	})
	want(t, client.Finalize(h.send(client, "x", "", h.commits[0]).ID), wire.Failed, wire.Policy, "sh has not ended within 1ms")
	if found, err := filepath.Glob(filepath.Join(h.Repo, "objects/*/*")); err != nil || len(found) > 0 {
		t.Errorf("in the repository are %q, %v", found, err)
	}
	h.noViews()
}

// What would be refused anyway, or lacks objects, is not checked.
func TestCheckOfWhatCannotBe(t *testing.T) {
	h := newCheckedHost(t, "archive", "touch DIR/ran", "one", "two")
	client := h.Client(h.Token)
	s := client.Open(wire.Ref{Ref: "x", New: h.commits[0].String()})
	want(t, client.Finalize(s.ID), wire.Open, wire.MissingObjects, "")
	want(t, client.Finalize(h.send(client, "x", h.commits[1].String(), h.commits[0]).ID), wire.Failed, wire.RefMoved, "")
	if _, err := os.Stat(filepath.Join(h.dir, "ran")); err == nil {
		t.Error("the check ran")
	}
	lacking := client.Negotiate(s.ID, ts.Objects(t, h.build, h.commits[0])...)
	client.Upload(s.ID, "all", ts.Pack(t, h.build, lacking...))
	want(t, client.Finalize(s.ID), wire.Published, "", "")
	h.await("ran")
}

const waits = `touch DIR/begun-$OSTREE_REFS; while [ ! -e DIR/go-$OSTREE_REFS ]; do sleep 0.01; done; echo $OSTREE_REFS >> DIR/ran`

// While one session is checked, those of other tokens are published; those of the same
// token wait, and say so.
func TestChecksHoldUpNobody(t *testing.T) {
	h := newCheckedHost(t, "archive", waits, "one", "two")
	first, second := h.Client(h.Token), h.Client(h.Admin)
	slow, after := h.send(first, "slow", "", h.commits[0]), h.send(first, "after", "", h.commits[0])
	h.start(first, slow.ID)
	h.await("begun-slow")
	if got := first.Session(slow.ID); got.State != wire.Verifying || !strings.HasPrefix(got.Detail, "is being checked by sh since ") {
		t.Errorf("%s, %q", got.State, got.Detail)
	}
	h.start(first, after.ID)
	must.Wait(t, "the other says that it waits", func() bool {
		return first.Session(after.ID).Detail == "waits for its check, as others are being checked"
	})
	h.touch("go-quick")
	want(t, second.Finalize(h.send(second, "quick", "", h.commits[1]).ID), wire.Published, "", "")
	h.touch("go-after")
	h.touch("go-slow")
	for _, id := range []string{slow.ID, after.ID} {
		want(t, first.Finalize(id), wire.Published, "", "")
	}
	if got := h.read("ran"); got != "quick\nslow\nafter\n" {
		t.Errorf("ran %q", got)
	}
}

// A check ends with its session: when that is aborted, when its token is taken away, when
// the server stops. A session that is finalized again is checked again.
func TestCheckIsEnded(t *testing.T) {
	h := newCheckedHost(t, "archive", waits, "one")
	client := h.Client(h.Token)
	aborted := h.send(client, "a1", "", h.commits[0])
	h.start(client, aborted.ID)
	h.await("begun-a1")
	client.Want(200, "DELETE", "/api/v1/sessions/"+aborted.ID, nil)

	s := h.send(client, "x", "", h.commits[0]) // whose check begins when that of the other is over
	h.start(client, s.ID)
	h.await("begun-x")
	h.Stop()
	must.OK(t, os.Remove(filepath.Join(h.dir, "begun-x")))
	must.OK(t, os.MkdirAll(filepath.Join(h.State, "checks", s.ID), 0o700)) // as a crash leaves it
	h.Run()
	h.noViews()
	client = h.Client(h.Token)
	if got := client.Session(s.ID); got.State != wire.Open {
		t.Fatalf("%s after a stop", got.State)
	}
	h.start(client, s.ID)
	h.await("begun-x")
	taken := config.Config{}
	h.Change(func(c *config.Config) {
		taken.Tokens = c.Tokens
		c.Tokens = nil
	})
	must.Wait(t, "it is open", func() bool {
		now, err := h.Journal.Session(s.ID)
		return err == nil && now.State == wire.Open && now.Error == wire.Forbidden
	})
	h.Change(func(c *config.Config) { c.Tokens = append([]token.Token{}, taken.Tokens...) })
	h.touch("go-x")
	want(t, client.Finalize(s.ID), wire.Published, "", "")
	if got := h.read("ran"); got != "x\n" {
		t.Errorf("ran to the end: %q", got)
	}
	h.noViews()
}

// A session of many refs is checked with all of them, which its environment cannot hold.
func TestCheckOfManyRefs(t *testing.T) {
	h := newCheckedHost(t, "archive", `test -z "$OSTREE_REFS" && test $OSTREE_ALL_REFS = 1 && ostree refs --repo=$1 | wc -l > DIR/refs`, "one")
	client := h.Client(h.Token)
	var refs []wire.Ref
	for i := range 2000 {
		refs = append(refs, wire.Ref{Ref: fmt.Sprintf("many/%020d", i), New: h.commits[0].String()})
	}
	s := client.Open(refs...)
	client.Upload(s.ID, "all", ts.Pack(t, h.build, client.Negotiate(s.ID, ts.Objects(t, h.build, h.commits[0])...)...))
	want(t, client.Finalize(s.ID), wire.Published, "", "")
	if got := h.read("refs"); got != "2000\n" {
		t.Errorf("%q refs", got)
	}
}
