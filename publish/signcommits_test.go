// SPDX-License-Identifier: AGPL-3.0-or-later

package publish_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/journal"
	"github.com/lirios/ostree-upload/test/gpg"
	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/objects"
	ts "github.com/lirios/ostree-upload/test/server"
)

// gate is a signer that signs by another command. What matches an expression takes it some
// seconds, which is less than a signature may take, until there is a file "go". There is a
// file "begun" since the first such.
const gate = `cat > DIR/in.$$
i=0
if [ ! -e DIR/go ] && grep -q GATE DIR/in.$$; then
  touch DIR/begun
  while [ ! -e DIR/go ] && [ $i -lt 300 ]; do sleep 0.01; i=$((i+1)); done
fi
SIGN < DIR/in.$$
`

// zeros is as good as a signature for a server that cannot verify it.
const zeros = "head -c 64 /dev/zero"

// A signingHost is a server that signs commits through a gate, and a chain of so many that
// they take minutes while they are held up there.
type signingHost struct {
	*checkedHost
	objects []ostree.Name
}

// newSigningHost starts one. The gate holds up commits of which the number begins so.
func newSigningHost(t *testing.T, commits int, number, signer string) *signingHost {
	t.Helper()
	h := &signingHost{checkedHost: &checkedHost{Server: ts.Start(t, "archive"), t: t, dir: t.TempDir()}}
	h.build = filepath.Join(h.dir, "build")
	h.commits, h.objects = chain(t, h.build, commits)
	h.signBy(number, signer)
	return h
}

func (h *signingHost) signBy(number, signer string) {
	h.t.Helper()
	script := strings.NewReplacer("DIR", h.dir, "GATE", "'number "+number+"'", "SIGN", signer).Replace(gate)
	must.OK(h.t, os.WriteFile(filepath.Join(h.dir, "sign"), []byte(script), 0o600))
	h.Change(func(c *config.Config) {
		c.Summary, c.Sign.Commits, c.Sign.Command = config.SummaryNever, true, []string{"sh", filepath.Join(h.dir, "sign")}
	})
}

// sendAll opens a session that moves a ref to the newest commit, and sends all of them.
func (h *signingHost) sendAll(client *ts.Client, ref string) (id string) {
	h.t.Helper()
	s := client.Open(wire.Ref{Ref: ref, New: h.commits[len(h.commits)-1].String()})
	if lacking := client.Negotiate(s.ID, h.objects...); len(lacking) > 0 {
		client.Upload(s.ID, "all", ts.Pack(h.t, h.build, lacking...))
	}
	return s.ID
}

// allSigned checks that each commit of the chain is in the repository with a signature.
func (h *signingHost) allSigned() {
	h.t.Helper()
	for _, c := range h.commits {
		if b, err := os.ReadFile(h.metaFile(c)); err != nil || !bytes.Contains(b, []byte("ostree.sign.ed25519")) {
			h.t.Fatalf("commit %s: %q, %v", c, b, err)
		}
	}
}

// metaFile is the detached metadata of a commit in the repository.
func (h *checkedHost) metaFile(c ostree.Checksum) string {
	return filepath.Join(h.Repo, "objects", ostree.Name{Checksum: c, Type: ostree.CommitMeta}.Path())
}

// chain puts commits of one small tree into a repository, each the parent of the next, with
// the number of each as its subject, and names all objects.
func chain(t *testing.T, repo string, n int) (commits []ostree.Checksum, names []ostree.Name) {
	t.Helper()
	must.OSTree(t, "init", "--repo="+repo, "--mode=archive")
	put := func(o objects.Object) {
		path := filepath.Join(repo, "objects", o.Path())
		must.OK(t, os.MkdirAll(filepath.Dir(path), 0o700))
		must.OK(t, os.WriteFile(path, o.Bytes, 0o600))
		name, err := ostree.ParseName(o.Name())
		must.OK(t, err)
		names = append(names, name)
	}
	put(objects.SoundFile("sound").Object())
	put(objects.SoundTree())
	put(objects.SoundDirMeta())
	put(objects.Metadata("dirtree", objects.Tree(nil, nil)))
	c := objects.SoundCommit()
	for i := range n {
		c.Subject = fmt.Sprintf("number %d of the chain", i)
		o := objects.Metadata("commit", c.Bytes())
		put(o)
		c.Parent, commits = o.Sum[:], append(commits, o.Sum)
	}
	return commits, names
}

// While the many commits of one session are being signed, the session of another token is
// signed and published.
func TestSigningHoldsUpNobody(t *testing.T) {
	t.Parallel()
	h := newSigningHost(t, 300, "[01]", zeros)
	client, other := h.Client(h.Token), h.Client(h.Admin)
	long := h.sendAll(client, "long")
	h.start(client, long)
	h.await("begun")

	build, c := build(t, "one", "two")
	want(t, other.Push(build, wire.Ref{Ref: "quick", New: c[0].String()}), wire.Published, "", "")
	if got := client.Session(long); got.State != wire.Verifying {
		t.Errorf("the session of many commits is %s, %s", got.State, got.Detail)
	}
	h.build = build
	after := h.send(client, "after", "", c[1]) // a second one of the same token has to wait
	h.start(client, after.ID)
	must.Wait(t, "the second one says that it waits", func() bool {
		return strings.HasPrefix(client.Session(after.ID).Detail, "waits for its commits to be signed")
	})
	h.touch("go")
	want(t, client.Finalize(long), wire.Published, "", "")
	want(t, client.Finalize(after.ID), wire.Published, "", "")
	h.commits = append(h.commits, c...)
	h.allSigned()
}

// A session ends while its commits are signed: it is aborted, or its token is taken away, or
// the server stops. Nothing is published without a signature, and another try publishes it.
func TestSigningIsEnded(t *testing.T) {
	t.Parallel()
	h := newSigningHost(t, 200, "1", zeros)
	client := h.Client(h.Token)
	begin := func(id string) {
		t.Helper()
		h.start(client, id)
		h.await("begun")
	}
	again := func() { must.OK(t, os.Remove(filepath.Join(h.dir, "begun"))) }
	aborted := h.sendAll(client, "x")
	begin(aborted)
	client.Want(200, "DELETE", "/api/v1/sessions/"+aborted, nil)

	id := h.sendAll(client, "x")
	again()
	begin(id)
	tokens := config.Config{}
	h.Change(func(c *config.Config) { tokens.Tokens, c.Tokens = c.Tokens, nil })
	must.Wait(t, "it is open", func() bool {
		now, err := h.Journal.Session(id)
		return err == nil && now.State == journal.Open && now.Error == wire.Forbidden
	})
	h.Change(func(c *config.Config) { c.Tokens = tokens.Tokens })

	again()
	begin(id)
	h.Stop()
	if h.Ref("x") != "" || has(t, h.Repo, h.commits[0]) {
		t.Error("something has changed")
	}
	h.Run()
	client = h.Client(h.Token)
	if got := client.Session(id); got.State != wire.Open {
		t.Fatalf("%s after a stop", got.State)
	}
	h.touch("go")
	want(t, client.Finalize(id), wire.Published, "", "")
	h.allSigned()
}

// A session that was publishing when the server was killed is signed before it goes on.
func TestSigningAfterKill(t *testing.T) {
	t.Parallel()
	h := newSigningHost(t, 20, "none", zeros)
	client := h.Client(h.Token)
	id := h.sendAll(client, "x")
	if lacking := client.Negotiate(id, h.objects...); len(lacking) > 0 { // which waits until all are staged
		t.Fatalf("%d objects are lacking", len(lacking))
	}
	h.Stop()
	j, err := journal.OpenFile(filepath.Join(h.State, "journal.db"))
	must.OK(t, err)
	for _, state := range []journal.State{journal.Verifying, journal.Publishing} {
		_, err := j.Move(id, state, nil)
		must.OK(t, err)
	}
	must.OK(t, j.Close())
	h.Run()
	want(t, h.Client(h.Token).Finalize(id), wire.Published, "", "")
	h.allSigned()
}

// What was signed before the turn counts only as long as the commit's detached metadata is
// the same: a signature that another session brought meanwhile gets no second one.
func TestSignedMeanwhile(t *testing.T) {
	t.Parallel()
	k := gpg.New(t)
	h := newSigningHost(t, 200, "[02-9]", "gpg --batch --homedir "+k.Home()+" --local-user "+k.Fingerprint(0)+" --detach-sign")
	first, second := h.Client(h.Token), h.Client(h.Admin)
	id := h.sendAll(first, "x")
	h.start(first, id)
	h.await("begun") // at number 99: the newer ones are signed
	tip := h.commits[len(h.commits)-1]
	want(t, second.Finalize(h.send(second, "y", "", tip).ID), wire.Published, "", "")
	if got := first.Session(id); got.State != wire.Verifying {
		t.Errorf("%s, %s", got.State, got.Detail)
	}
	h.touch("go")
	want(t, first.Finalize(id), wire.Published, "", "")
	for _, c := range []ostree.Checksum{tip, h.commits[0]} {
		shown := must.OSTree(t, "show", "--repo="+h.Repo, "--gpg-homedir="+k.Home(), c.String())
		if !strings.Contains(shown, "Found 1 signature:") {
			t.Errorf("%s", shown)
		}
	}
}

// The keys that count are those of the configuration at the session's turn. What cannot be
// signed waits for somebody to finalize it again.
func TestKeysChangeMeanwhile(t *testing.T) {
	t.Parallel()
	h := newSigningHost(t, 200, "none", "printf nonsense")
	file, public := ed25519Key(t)
	client := h.Client(h.Token)
	id := h.sendAll(client, "x")
	want(t, client.Finalize(id), wire.Open, wire.Internal, "cannot be signed, and is not published without: sign.command: ")
	h.signBy("1", zeros)
	h.start(client, id)
	h.await("begun")
	h.Change(func(c *config.Config) { c.Sign.Command, c.Sign.Ed25519 = nil, file })
	h.touch("go")
	want(t, client.Finalize(id), wire.Published, "", "")
	for _, c := range h.commits {
		b, err := os.ReadFile(filepath.Join(h.Repo, "objects", ostree.Name{Checksum: c, Type: ostree.CommitObject}.Path()))
		must.OK(t, err)
		wantEd25519(t, h.metaFile(c), public, b, 1)
		if b, err = os.ReadFile(h.metaFile(c)); err != nil || bytes.Contains(b, make([]byte, 64)) {
			t.Fatalf("commit %s has the signature of a key that is not the server's any more, %v", c, err)
		}
	}
}
