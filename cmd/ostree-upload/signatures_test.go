// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package main

import (
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/lirios/ostree-upload/internal/push"
)

// keys is a GnuPG home with secret keys.
type keys struct {
	t    *testing.T
	home string
	ids  [2]string
}

func newKeys(t *testing.T) *keys {
	t.Helper()
	// Not t.TempDir, whose path may be too long for the agent's socket.
	home, err := os.MkdirTemp("", "gpg")
	check(t, err)
	t.Cleanup(func() {
		// The agent keeps the folder in use until it is told to end.
		_ = exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run()
		check(t, os.RemoveAll(home))
	})
	k := &keys{t: t, home: home}
	for i := range k.ids {
		k.ids[i] = fmt.Sprintf("key%d@example.org", i)
		k.gpg("--passphrase", "", "--quick-generate-key", k.ids[i], "ed25519", "sign", "never")
	}
	return k
}

func (k *keys) gpg(args ...string) {
	k.t.Helper()
	cmd := exec.Command("gpg", append([]string{"--homedir", k.home, "--batch"}, args...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		k.t.Fatalf("gpg: %v\n%s", err, out)
	}
}

func (k *keys) sign(repo, commit string, key int) {
	k.t.Helper()
	runOSTree(k.t, "gpg-sign", "--repo="+repo, "--gpg-homedir="+k.home, commit, k.ids[key])
}

// verify pulls a ref with an ordinary client that trusts just one of the keys.
func (k *keys) verify(repo, ref string, key int) {
	k.t.Helper()
	dir := k.t.TempDir()
	public, client := filepath.Join(dir, "key.gpg"), filepath.Join(dir, "client")
	k.gpg("--output", public, "--export", k.ids[key])
	runOSTree(k.t, "init", "--repo="+client, "--mode=archive")
	runOSTree(k.t, "remote", "add", "--repo="+client, "--set=gpg-verify=true", "--gpg-import="+public, "prod", "file://"+repo)
	runOSTree(k.t, "pull", "--repo="+client, "prod", ref)
}

// dummy signs, or with --verify verifies, by libostree's other signature API.
func dummy(t *testing.T, repo, commit, key string, flags ...string) {
	t.Helper()
	args := append([]string{"sign", "--repo=" + repo, "--sign-type=dummy"}, flags...)
	cmd := exec.Command("ostree", append(args, commit, key)...)
	cmd.Env = append(os.Environ(), "OSTREE_DUMMY_SIGN_ENABLED=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("ostree sign: %v\n%s", err, out)
	}
}

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
	s := newSite(t)
	k := newKeys(t)
	b := small(t, "os/signed", "signed")
	unsigned := &build{repo: filepath.Join(s.dir, "unsigned")}
	runOSTree(t, "init", "--repo="+unsigned.repo, "--mode=bare-user")
	runOSTree(t, "pull-local", "--repo="+unsigned.repo, b.repo, b.ref)

	k.sign(b.repo, b.commit, 0)
	first := s.push(b)
	if first.ObjectsSent != int64(b.objects)+1 {
		t.Errorf("%d objects sent, want %d and the signature", first.ObjectsSent, b.objects)
	}
	k.verify(s.prod, b.ref, 0)

	k.sign(b.repo, b.commit, 1)
	onlySignature(t, s.push(b))
	dummy(t, b.repo, b.commit, "key")
	onlySignature(t, s.push(b))
	if !s.push(b).NothingToDo {
		t.Error("there was something to do after all signatures were pushed")
	}

	if !s.push(unsigned, b.ref).NothingToDo {
		t.Error("a repository without signatures has something to push")
	}
	dummy(t, unsigned.repo, b.commit, "other key")
	onlySignature(t, s.push(unsigned))
	for key := range k.ids {
		k.verify(s.prod, b.ref, key)
	}
	dummy(t, s.prod, b.commit, "key", "--verify")
	dummy(t, s.prod, b.commit, "other key", "--verify")
	s.atHead(b.ref, b.commit)
}

// ed25519 signatures verify after the push, where libostree can make them.
func TestEd25519(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	b := small(t, "os/ed25519", "ed25519")
	public, secret, err := ed25519.GenerateKey(nil)
	check(t, err)
	sign := exec.Command("ostree", "sign", "--repo="+b.repo, "--sign-type=ed25519", b.commit, base64.StdEncoding.EncodeToString(secret))
	if out, err := sign.CombinedOutput(); err != nil {
		t.Skipf("this libostree makes no ed25519 signatures: %s", out)
	}
	s.push(b)
	runOSTree(t, "sign", "--repo="+s.prod, "--sign-type=ed25519", "--verify", b.commit, base64.StdEncoding.EncodeToString(public))
}
