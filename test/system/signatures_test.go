// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package system

import (
	"crypto/ed25519"
	"encoding/base64"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/lirios/ostree-upload/internal/push"
	"github.com/lirios/ostree-upload/test/gpg"
	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/site"
)

// onlySignature checks that a push sent one commit's detached metadata and
// nothing else, and did not even talk of more.
func onlySignature(t *testing.T, r push.Result) {
	t.Helper()
	if r.NothingToDo || r.ObjectsSent != 1 || r.Objects != 1 || r.Session.Objects.Known != 1 {
		t.Errorf("%d objects sent of %d found, %d in the session; want the signature alone", r.ObjectsSent, r.Objects, r.Session.Objects.Known)
	}
	if r.BytesSent > 4096 {
		t.Errorf("%d bytes sent for a signature", r.BytesSent)
	}
}

// Signatures travel with their commit; one more on a commit that is there
// travels alone, from any repository, and takes none away.
func TestSignatures(t *testing.T) {
	t.Parallel()
	s := site.New(t)
	k := gpg.New(t)
	b := site.Small(t, "os/signed", "signed")
	unsigned := &site.Build{Repo: filepath.Join(s.Dir, "unsigned")}
	must.OSTree(t, "init", "--repo="+unsigned.Repo, "--mode=bare-user")
	must.OSTree(t, "pull-local", "--repo="+unsigned.Repo, b.Repo, b.Ref)

	k.Sign(b.Repo, b.Commit, 0)
	first := s.Push(b)
	if first.ObjectsSent != int64(b.Objects)+1 {
		t.Errorf("%d objects sent, want %d and the signature", first.ObjectsSent, b.Objects)
	}
	k.Verify(s.Prod, b.Ref, 0)

	k.Sign(b.Repo, b.Commit, 1)
	onlySignature(t, s.Push(b))
	site.DummySign(t, b.Repo, b.Commit, "key")
	onlySignature(t, s.Push(b))
	if !s.Push(b).NothingToDo {
		t.Error("there was something to do after all signatures were pushed")
	}

	if !s.Push(unsigned, b.Ref).NothingToDo {
		t.Error("a repository without signatures has something to push")
	}
	site.DummySign(t, unsigned.Repo, b.Commit, "other key")
	onlySignature(t, s.Push(unsigned))
	for key := range 2 {
		k.Verify(s.Prod, b.Ref, key)
	}
	site.DummySign(t, s.Prod, b.Commit, "key", "--verify")
	site.DummySign(t, s.Prod, b.Commit, "other key", "--verify")
	s.AtHead(b.Ref, b.Commit)
}

// ed25519 signatures verify after the push, where libostree can make them.
func TestEd25519(t *testing.T) {
	t.Parallel()
	s := site.New(t)
	b := site.Small(t, "os/ed25519", "ed25519")
	public, secret, err := ed25519.GenerateKey(nil)
	must.OK(t, err)
	sign := exec.Command("ostree", "sign", "--repo="+b.Repo, "--sign-type=ed25519", b.Commit, base64.StdEncoding.EncodeToString(secret))
	if out, err := sign.CombinedOutput(); err != nil {
		t.Skipf("this libostree makes no ed25519 signatures: %s", out)
	}
	s.Push(b)
	must.OSTree(t, "sign", "--repo="+s.Prod, "--sign-type=ed25519", "--verify", b.Commit, base64.StdEncoding.EncodeToString(public))
}
