// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package system

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/lirios/ostree-upload/test/gpg"
	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/site"
)

// A repository that a group shares is signed, pruned, given static deltas, and
// written to by another member, all in loops, while pushes come: each push and each
// command of the others succeeds, every commit and ref is where its writer put it,
// and the signature of the summary is there and good after each round of whoever
// begins to sign it, also the first one. With CRASH=full there are 50 pushes for each setting of the summary.
func TestBusyRepository(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can act as several users")
	}
	program, err := exec.LookPath("ostree-upload")
	must.OK(t, err)
	pushes, settings := 8, []string{"auto"}
	if site.Full() {
		pushes, settings = 50, []string{"auto", "always", "never"}
	}
	for _, setting := range settings {
		t.Run(setting, func(t *testing.T) {
			b := &busy{shared: shared{t: t, dir: t.TempDir(), program: program, starter: memberA}, heads: map[string]string{}}
			openToAll(t, b.dir)
			b.makeRepository()
			b.as(0, `echo "summary: `+setting+`" >>ostree-upload.yaml && mkdir member && chown 5002 member`)
			b.as(memberA, "ostree summary --update --repo=pub/prod") // which the server keeps up until it is signed
			b.keys = gpg.New(t)
			b.reader = b.keys.SummaryReader(b.prod(), 0)
			stop := b.serve()
			b.pushBeside(pushes)
			b.wantSignatureKept()
			stop()
			b.wantAll()
			b.wantShared()
		})
	}
}

// busy is a shared repository at which many work.
type busy struct {
	shared
	keys   *gpg.Keys
	reader gpg.SummaryReader
	signed bool // once, at least

	pushed  atomic.Int64
	commits []string          // that were pushed
	heads   map[string]string // of each ref that was pushed

	listing sync.Mutex // held while somebody lists the refs or deletes one
	own     int        // how many refs the other member has made
	ownHead string     // of the last one, which is there
}

func (b *busy) prod() string { return filepath.Join(b.dir, "pub", "prod") }

// pushBeside pushes n times beside the others.
func (b *busy) pushBeside(n int) {
	b.t.Helper()
	for range 3 { // a static delta needs the commit before
		b.pushNext()
	}
	pruner, others := site.StartPruner(b.prod()), newLoops()
	others.start("who signs", b.sign)
	others.start("who makes deltas", b.delta)
	others.start("the other member", func() error { return b.replaceOwn(pruner) })
	for range n {
		b.pushNext()
	}
	others.end(b.t)
	pruner.End(b.t)
}

// pushNext pushes a new commit to one of two refs.
func (b *busy) pushNext() {
	b.t.Helper()
	n := b.pushed.Load()
	ref := site.TwoRefs[n%2]
	commit := b.as(0, fmt.Sprintf("%s && ostree commit --repo=build -b %s --tree=dir=tree --owner-uid=0 --owner-gid=0", fill("tree", n), ref))
	b.as(0, fmt.Sprintf("$0 push --repo build --address http://%s --token-file token %s", b.address, ref))
	b.commits, b.heads[ref] = append(b.commits, commit), commit
	b.pushed.Add(1)
}

// fill is a script that makes a tree of push n.
func fill(tree string, n int64) string {
	return fmt.Sprintf("for i in 1 2 3 4 5 6 7 8; do echo push %d file $i >%s/$i; done", n, tree)
}

// sign signs, and looks whether the signature of the last round and the new one are
// good.
func (b *busy) sign() error {
	if b.signed {
		if err := b.reader.Read(); err != nil {
			return err
		}
	}
	b.signed = true
	b.listing.Lock()
	defer b.listing.Unlock()
	if err := b.keys.SignSummary(b.prod(), 0); err != nil {
		return err
	}
	return b.reader.Read()
}

func (b *busy) delta() error {
	_, err := b.try(memberA, "ostree static-delta generate --repo=pub/prod "+site.TwoRefs[0])
	return err
}

// replaceOwn makes a ref of the other member and deletes the one before. It has
// files of pushes that are to come: prune takes them away while a push is told that
// they are there.
func (b *busy) replaceOwn(pruner *site.Pruner) error {
	commit, err := b.try(memberB, fmt.Sprintf("%s && ostree commit --repo=pub/prod -b own/%d --tree=dir=member --owner-uid=0 --owner-gid=0",
		fill("member", b.pushed.Load()+1), b.own))
	if err != nil {
		return err
	}
	b.ownHead = commit
	if b.own++; b.own == 1 {
		return nil
	}
	// Deleting a ref takes no lock: whoever lists them meanwhile fails.
	pruner.Paused(func() {
		b.listing.Lock()
		defer b.listing.Unlock()
		_, err = b.try(memberB, fmt.Sprintf("ostree refs --repo=pub/prod --delete own/%d", b.own-2))
	})
	return err
}

// wantSignatureKept checks that a push leaves the summary and its signature as they
// are, until the next round.
func (b *busy) wantSignatureKept() {
	b.t.Helper()
	must.OK(b.t, b.sign())
	before := b.summary()
	b.pushNext()
	if !bytes.Equal(before, b.summary()) {
		b.t.Error("a push changed the signed summary")
	}
	must.OK(b.t, b.sign())
	if bytes.Equal(before, b.summary()) {
		b.t.Error("the summary does not change when it is signed anew")
	}
}

// summary is the summary with its signature.
func (b *busy) summary() (all []byte) {
	b.t.Helper()
	for _, name := range []string{"summary", "summary.sig"} {
		content, err := os.ReadFile(filepath.Join(b.prod(), name))
		must.OK(b.t, err)
		all = append(all, content...)
	}
	return all
}

// wantAll checks that nothing is lost.
func (b *busy) wantAll() {
	b.t.Helper()
	b.heads[fmt.Sprint("own/", b.own-1)] = b.ownHead
	for ref, commit := range b.heads {
		if head := b.as(0, "ostree rev-parse --repo=pub/prod "+ref); head != commit {
			b.t.Errorf("%s is %s, want %s", ref, head, commit)
		}
	}
	for _, commit := range b.commits {
		b.as(0, "ostree ls -R --repo=pub/prod "+commit)
	}
	b.as(memberA, "ostree fsck --repo=pub/prod")
}
