// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package policy_test

import (
	"crypto/ed25519"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/gvariant"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/policy"
	"github.com/lirios/ostree-upload/test/gpg"
	"github.com/lirios/ostree-upload/test/must"
	ts "github.com/lirios/ostree-upload/test/server"
)

// A signed commit of a repository, and a keyring.
type fixture struct {
	t            *testing.T
	repo, commit string
	bytes        []byte
	keyring      string
	public       []ed25519.PublicKey
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	dir := t.TempDir()
	f := &fixture{t: t, repo: filepath.Join(dir, "repo"), keyring: filepath.Join(dir, "keys")}
	f.commit = ts.Commit(t, f.repo, "main", "one", 3).String()
	f.bytes = f.object(ostree.CommitObject)
	return f
}

func (f *fixture) object(typ ostree.Type) []byte {
	f.t.Helper()
	c, err := ostree.ParseChecksum(f.commit)
	must.OK(f.t, err)
	return ts.Object(f.t, f.repo, ostree.Name{Checksum: c, Type: typ})
}

// policy wants so many of the keys of the keyring.
func (f *fixture) policy(require int) config.Policy {
	p := config.Policy{Name: "policy 1", Require: require, Ed25519: f.public}
	if _, err := os.Stat(f.keyring); err == nil {
		p.GPGKeyring = f.keyring
	}
	return p
}

// check is what comes of the commit's signatures at a time.
func (f *fixture) check(require int, meta []byte, now time.Time) error {
	f.t.Helper()
	k, err := policy.Load(f.policy(require))
	must.OK(f.t, err)
	return k.Check(f.bytes, meta, now)
}

// lacks is a failure unless just so many good signatures are there, and this is said.
func (f *fixture) lacks(good int, words string, err error) {
	f.t.Helper()
	var lacking *policy.LackingError
	if !errors.As(err, &lacking) || lacking.Good != good || !strings.Contains(err.Error(), words) {
		f.t.Errorf("%v, want %d good signatures and %q", err, good, words)
	}
}

func (f *fixture) write(path string, paths ...string) {
	f.t.Helper()
	var text []byte
	for _, p := range paths {
		b, err := os.ReadFile(p)
		must.OK(f.t, err)
		text = append(text, b...)
	}
	must.OK(f.t, os.WriteFile(path, text, 0o600))
}

// ed25519s is detached metadata with signatures as `ostree sign` makes them.
func ed25519s(signatures ...[]byte) []byte {
	return gvariant.WriteDict([]gvariant.Entry{{
		Key: "ostree.sign.ed25519", Value: gvariant.WriteVariant("aay", gvariant.WriteArray(1, signatures)),
	}})
}

func gpgSignatures(t *testing.T, meta []byte) (all [][]byte) {
	t.Helper()
	entries := gvariant.Dict(meta)
	value, ok := gvariant.Value(entries[0].Value, "aay")
	if !ok || entries[0].Key != "ostree.gpgsigs" {
		t.Fatalf("%q", entries[0].Key)
	}
	list := gvariant.MustParse("aay")
	a := list.Elements(value)
	for i := range a.Len() {
		all = append(all, a.At(i))
	}
	return all
}

// So many keys of GnuPG homes have to have signed, each of which counts once: not by a
// subkey too, nor when it has expired, or is revoked, or is not in the keyring.
func TestGPG(t *testing.T) {
	f := newFixture(t)
	one, two, stranger := gpg.New(t), gpg.New(t), gpg.New(t)
	export := func() {
		t.Helper()
		one.Export(f.keyring+"1", true)
		two.Export(f.keyring+"2", true)
		f.write(f.keyring, f.keyring+"1", f.keyring+"2")
	}
	export()
	f.lacks(0, "it has 0 good signatures of the 1 that policy 1 requires", f.check(1, nil, time.Now()))
	one.Sign(f.repo, f.commit, 0)
	first := f.object(ostree.CommitMeta)
	must.OK(t, f.check(1, first, time.Now()))
	f.lacks(1, "it has 1 good signature of the 2 that policy 1 requires, each by another key", f.check(2, first, time.Now()))
	stranger.Sign(f.repo, f.commit, 0)
	id := stranger.Fingerprint(0)[24:]
	f.lacks(1, "GPG key ID "+id+" is not among the keys that count", f.check(2, f.object(ostree.CommitMeta), time.Now()))

	one.AddSubkey(0)
	one.Sign(f.repo, f.commit, 0)
	export()
	meta := f.object(ostree.CommitMeta)
	if n := len(gpgSignatures(t, meta)); n != 3 {
		t.Fatalf("%d signatures", n)
	}
	f.lacks(1, "", f.check(2, meta, time.Now()))
	one.Sign(f.repo, f.commit, 1)
	two.Sign(f.repo, f.commit, 1)
	must.OK(t, f.check(3, f.object(ostree.CommitMeta), time.Now()))

	two.Expire(1, "2d")
	one.Revoke(1)
	export()
	meta = f.object(ostree.CommitMeta)
	must.OK(t, f.check(2, meta, time.Now()))
	f.lacks(2, "GPG key ID "+one.Fingerprint(1)[24:]+": the key is revoked", f.check(3, meta, time.Now()))
	later := time.Now().Add(3 * 24 * time.Hour)
	f.lacks(1, "GPG key ID "+two.Fingerprint(1)[24:]+": the key has expired on "+time.Now().Add(2*24*time.Hour).UTC().Format(time.DateOnly), f.check(2, meta, later))
	// Whoever has another commit's signatures has none of this.
	f.bytes = append(f.bytes, 0)
	f.lacks(0, "the signature is of another commit, or damaged", f.check(1, meta, time.Now()))
}

// A key that is in the keyring twice is one: an older copy does not make a revoked one
// good.
func TestCopiesOfKeys(t *testing.T) {
	f := newFixture(t)
	keys := gpg.New(t)
	keys.Sign(f.repo, f.commit, 0)
	before, after := f.keyring+"1", f.keyring+"2"
	keys.Export(before, false, 0)
	keys.Revoke(0)
	keys.Export(after, false, 0)
	for _, paths := range [][]string{{before, after}, {after, before}} {
		f.write(f.keyring, paths...)
		f.lacks(0, "the key is revoked", f.check(1, f.object(ostree.CommitMeta), time.Now()))
		if _, err := policy.Load(f.policy(2)); err == nil || !strings.Contains(err.Error(), "wants 2 keys to have signed, and there are only 1") {
			t.Error(err)
		}
	}
}

// ed25519 keys count beside those of GPG, each once.
func TestEd25519(t *testing.T) {
	f := newFixture(t)
	var secret [2]ed25519.PrivateKey
	for i := range secret {
		public, key, err := ed25519.GenerateKey(nil)
		must.OK(t, err)
		f.public, secret[i] = append(f.public, public), key
	}
	a, b := ed25519.Sign(secret[0], f.bytes), ed25519.Sign(secret[1], f.bytes)
	must.OK(t, f.check(2, ed25519s(a, b), time.Now()))
	f.lacks(1, "", f.check(2, ed25519s(a, a), time.Now()))
	other := ed25519.Sign(secret[1], []byte("another commit"))
	f.lacks(1, "an ed25519 signature is of none of the 2 ed25519 keys that count", f.check(2, ed25519s(a, other, nil), time.Now()))
	keys := gpg.New(t)
	keys.Export(f.keyring, false)
	keys.Sign(f.repo, f.commit, 0)
	meta, err := ostree.MergeCommitMeta(f.object(ostree.CommitMeta), ed25519s(a))
	must.OK(t, err)
	must.OK(t, f.check(2, meta, time.Now()))
	f.lacks(2, "", f.check(3, meta, time.Now()))
}

// What one commit's signatures cost has a bound, whatever they are.
func TestHostileSignatures(t *testing.T) {
	f := newFixture(t)
	public, _, err := ed25519.GenerateKey(nil)
	must.OK(t, err)
	f.public = []ed25519.PublicKey{public}
	var many [][]byte
	for i := range 100_000 {
		many = append(many, []byte{byte(i), byte(i >> 8), byte(i >> 16), 63: 0})
	}
	f.lacks(0, "there are too many signatures to verify them all", f.check(1, ed25519s(many...), time.Now()))
	f.bytes = make([]byte, 32<<20)
	f.lacks(0, "there are too many signatures to verify them all", f.check(1, ed25519s(many[:40]...), time.Now()))

	keys := gpg.New(t)
	keys.Export(f.keyring, false)
	keys.Sign(f.repo, f.commit, 0)
	one := gpgSignatures(t, f.object(ostree.CommitMeta))[0]
	f.bytes = []byte("another commit")
	packets := []byte{}
	for range 100_000 {
		packets = append(packets, one...)
	}
	gpgs := gvariant.WriteDict([]gvariant.Entry{{
		Key: "ostree.gpgsigs", Value: gvariant.WriteVariant("aay", gvariant.WriteArray(1, [][]byte{packets, []byte("not a packet"), {}})),
	}})
	f.lacks(0, "there are too many signatures to verify them all", f.check(1, gpgs, time.Now()))
}

// What is no keyring is told, with the setting and the file.
func TestBadKeyrings(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	keys := gpg.New(t)
	keys.Export(path("good"), true, 0)
	good, err := os.ReadFile(path("good"))
	must.OK(t, err)
	for name, text := range map[string]string{
		"empty":  "",
		"text":   "no keys here\n",
		"secret": strings.ReplaceAll(string(good), "PUBLIC", "PRIVATE"),
		"half":   string(good) + "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\naGVsbG8=\n-----END PGP PUBLIC KEY BLOCK-----\n",
	} {
		must.OK(t, os.WriteFile(path(name), []byte(text), 0o600))
		_, err := policy.Load(config.Policy{Name: "policy 3", GPGKeyring: path(name), Require: 1})
		if want := "policy 3: gpg-keyring: " + path(name) + " holds no public keys as `gpg --export` writes them: "; err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, want := range map[string]string{"gone": " is not there", ".": "is a directory"} {
		if _, err := policy.Load(config.Policy{GPGKeyring: path(name), Require: 1}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
