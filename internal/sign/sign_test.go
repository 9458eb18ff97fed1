// SPDX-License-Identifier: AGPL-3.0-or-later

package sign_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/gvariant"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/sign"
	"github.com/lirios/ostree-upload/test/gpg"
	"github.com/lirios/ostree-upload/test/must"
)

// keyFile makes a file of one ed25519 key.
func keyFile(t *testing.T) (path string, public ed25519.PublicKey) {
	t.Helper()
	public, secret, err := ed25519.GenerateKey(nil)
	must.OK(t, err)
	path = filepath.Join(t.TempDir(), "ed25519")
	must.OK(t, os.WriteFile(path, []byte(base64.StdEncoding.EncodeToString(secret)+"\n"), 0o600))
	return path, public
}

// script makes a program that signs.
func script(t *testing.T, text string) []string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sign")
	must.OK(t, os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o700))
	return []string{path}
}

// signatures lists those of one kind in an a{sv}.
func signatures(t *testing.T, b []byte, kind string) (list [][]byte) {
	t.Helper()
	must.OK(t, ostree.ParseCommitMeta(b))
	for _, e := range gvariant.Dict(b) {
		if e.Key != kind {
			continue
		}
		value, ok := gvariant.Value(e.Value, "aay")
		if !ok {
			t.Fatalf("%s is no list of signatures", kind)
		}
		aay := gvariant.MustParse("aay")
		for a, i := aay.Elements(value), 0; i < a.Len(); i++ {
			list = append(list, a.At(i))
		}
	}
	return list
}

// verified tells whether gpg finds a signature good.
func verified(t *testing.T, home string, data, signature []byte) bool {
	t.Helper()
	dir := t.TempDir()
	must.OK(t, os.WriteFile(filepath.Join(dir, "data"), data, 0o600))
	must.OK(t, os.WriteFile(filepath.Join(dir, "sig"), signature, 0o600))
	return exec.Command("gpg", "--homedir", home, "--batch", "--verify", filepath.Join(dir, "sig"), filepath.Join(dir, "data")).Run() == nil
}

// Each kind of key signs so that others verify it, where libostree looks for it; and not
// again what it has signed, also beside the signatures of others.
func TestSign(t *testing.T) {
	k := gpg.New(t)
	file, public := keyFile(t)
	byGPG := func(t *testing.T, data, meta []byte) bool {
		list := signatures(t, meta, "ostree.gpgsigs")
		return len(list) == 1 && verified(t, k.Home(), data, list[0])
	}
	byEd25519 := func(t *testing.T, data, meta []byte) bool {
		list := signatures(t, meta, "ostree.sign.ed25519")
		return len(list) == 1 && ed25519.Verify(public, data, list[0])
	}
	secret, err := os.ReadFile(file)
	must.OK(t, err)
	seed, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(secret)))
	must.OK(t, err)
	pem := filepath.Join(t.TempDir(), "key.pem")
	must.OK(t, os.WriteFile(pem, pemKey(seed[:32]), 0o600))
	openssl := "cat > $0.in; openssl pkeyutl -sign -rawin -inkey " + pem + " -in $0.in"
	detach := "[ $OSTREE_UPLOAD_SIGN = commit ] && exec gpg --homedir " + k.Home() + " --batch -u " + k.Fingerprint(0) + " --detach-sign"
	for name, tt := range map[string]struct {
		config config.Sign
		good   func(t *testing.T, data, meta []byte) bool
		knows  bool // which signatures are its own
	}{
		"gpg":              {config.Sign{GPG: config.GPG{Homedir: k.Home(), Keys: []string{k.Fingerprint(0)}}}, byGPG, true},
		"ed25519":          {config.Sign{Ed25519: file}, byEd25519, true},
		"command, gpg":     {config.Sign{Command: script(t, detach)}, byGPG, false},
		"command, armor":   {config.Sign{Command: script(t, detach+" --armor")}, byGPG, false},
		"command, ed25519": {config.Sign{Command: script(t, openssl)}, byEd25519, false},
		"command, base64":  {config.Sign{Command: script(t, openssl+" | base64 -w 0")}, byEd25519, false},
	} {
		t.Run(name, func(t *testing.T) {
			keys, data := sign.New(tt.config), []byte("a commit")
			must.OK(t, keys.Check(t.Context()))
			meta, err := keys.SignCommit(t.Context(), data, nil, nil)
			must.OK(t, err)
			if !tt.good(t, data, meta) {
				t.Errorf("a bad signature: %q", meta)
			}
			other := sign.New(config.Sign{GPG: config.GPG{Homedir: k.Home(), Keys: []string{k.Fingerprint(1)}}})
			theirs, err := other.SignCommit(t.Context(), data, nil, nil)
			must.OK(t, err)
			both, err := ostree.MergeCommitMeta(meta, theirs)
			must.OK(t, err)
			again, err := keys.SignCommit(t.Context(), data, both, meta)
			must.OK(t, err)
			if again != nil {
				t.Errorf("it signed again: %q", again)
			}
			more, err := keys.SignCommit(t.Context(), data, theirs, nil)
			must.OK(t, err)
			if !tt.good(t, data, more) {
				t.Errorf("beside another's: %q", more)
			}
			for over, want := range map[string]bool{"a commit": tt.knows, "another": false} {
				all, err := keys.All(t.Context(), []byte(over), both)
				must.OK(t, err)
				one, err := keys.Any(t.Context(), []byte(over), both)
				must.OK(t, err)
				if all != want || one != want {
					t.Errorf("its own over %q: %v, %v", over, all, one)
				}
			}
		})
	}
}

// pemKey is an ed25519 key as openssl reads it.
func pemKey(seed []byte) []byte {
	der := append([]byte{0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20}, seed...)
	return fmt.Appendf(nil, "-----BEGIN PRIVATE KEY-----\n%s\n-----END PRIVATE KEY-----\n", base64.StdEncoding.EncodeToString(der))
}

// A summary.sig says who made it, whatever was signed; a program's does not.
func TestOwn(t *testing.T) {
	file, public := keyFile(t)
	made, err := sign.New(config.Sign{Ed25519: file}).SignSummary(t.Context(), []byte("summary"))
	must.OK(t, err)
	list := signatures(t, made, "ostree.sign.ed25519")
	if len(list) != 1 || !ed25519.Verify(public, []byte("summary"), list[0]) {
		t.Errorf("signatures %q", list)
	}
	meta, err := sign.New(config.Sign{Ed25519: file}).SignCommit(t.Context(), []byte("summary"), nil, nil)
	must.OK(t, err)
	for _, tt := range []struct {
		b    []byte
		want bool
	}{{made, true}, {meta, false}, {nil, false}, {[]byte("x"), false}, {made[:len(made)-1], false}} {
		if sign.Own(tt.b) != tt.want {
			t.Errorf("%q: its own is %v", tt.b, !tt.want)
		}
	}
}

// What can never sign is told by a check, in a line that names the setting and what to do.
func TestCheck(t *testing.T) {
	k := gpg.New(t)
	home := func(keys ...string) config.Sign { return config.Sign{GPG: config.GPG{Homedir: k.Home(), Keys: keys}} }
	dir := t.TempDir()
	open := filepath.Join(dir, "open")
	must.OK(t, os.Mkdir(open, 0o755))
	must.OK(t, os.Chmod(open, 0o755))
	file := func(name, text string, mode fs.FileMode) config.Sign {
		path := filepath.Join(dir, name)
		must.OK(t, os.WriteFile(path, []byte(text), mode))
		must.OK(t, os.Chmod(path, mode))
		return config.Sign{Ed25519: path}
	}
	good, err := os.ReadFile(first(keyFile(t)))
	must.OK(t, err)
	secret := strings.TrimSpace(string(good))
	mixed, err := base64.StdEncoding.DecodeString(secret)
	must.OK(t, err)
	mixed[63] ^= 1
	expired := k.Expired()
	for name, tt := range map[string]struct {
		config config.Sign
		want   string
	}{
		"no home":         {config.Sign{GPG: config.GPG{Homedir: "/not/there", Keys: []string{"x"}}}, "sign.gpg.homedir: /not/there is not there"},
		"open home":       {config.Sign{GPG: config.GPG{Homedir: open, Keys: []string{"x"}}}, "(mode 0755): chmod 700 " + open},
		"no key":          {home("0123456789ABCDEF"), "sign.gpg.keys: there is no secret key 0123456789ABCDEF in " + k.Home()},
		"two keys":        {home("example.org"), "sign.gpg.keys: 3 secret keys in " + k.Home() + " go by example.org"},
		"expired key":     {home(expired), "sign.gpg.keys: key " + expired + " in " + k.Home() + " has expired"},
		"no file":         {config.Sign{Ed25519: "/not/there"}, "sign.ed25519.key-file: /not/there is not there"},
		"open file":       {file("open file", secret, 0o644), "(mode 0644): chmod 600"},
		"empty file":      {file("empty", "\n", 0o600), "holds no key"},
		"no base64":       {file("words", "\nhello\n", 0o600), "line 2: this is not the base64 of the 64 bytes"},
		"the seed alone":  {file("seed", secret[:44], 0o600), "line 1: this is not the base64"},
		"another's half":  {file("mixed", base64.StdEncoding.EncodeToString(mixed), 0o600), "is not that of the seed"},
		"no program":      {config.Sign{Command: []string{"/not/there"}}, "sign.command: /not/there is not there"},
		"not executable":  {config.Sign{Command: []string{filepath.Join(dir, "words")}}, "is not executable"},
		"several at once": {config.Sign{Ed25519: "/not/there", Command: []string{"/not/there"}}, "/not/there is not there\nsign.command: "},
	} {
		t.Run(name, func(t *testing.T) {
			err := sign.New(tt.config).Check(t.Context())
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("%v, want %q", err, tt.want)
			}
			if strings.Contains(err.Error(), secret[:20]) {
				t.Error("it quotes the secret")
			}
		})
	}
}

func first[A, B any](a A, _ B) A { return a }

// What keeps a key from signing now is told by a trial.
func TestTry(t *testing.T) {
	k := gpg.New(t)
	locked := k.Locked("secret")
	by := func(text string) config.Sign { return config.Sign{Command: script(t, text)} }
	for name, tt := range map[string]struct {
		config config.Sign
		want   string
	}{
		"passphrase":      {config.Sign{GPG: config.GPG{Homedir: k.Home(), Keys: []string{locked}}}, "it has a passphrase"},
		"fails":           {by("echo the card is away >&2; exit 3"), "failed with exit status 3: the card is away"},
		"prints nothing":  {by("cat >/dev/null"), "printed neither a detached GPG signature nor"},
		"prints no sense": {by("echo hello"), "printed neither a detached GPG signature nor"},
		"prints a lot":    {by("head -c 3000000 /dev/zero"), "printed more than"},
		"is killed":       {by("kill -KILL $$"), "was killed by signal 9"},
	} {
		t.Run(name, func(t *testing.T) {
			keys := sign.New(tt.config)
			must.OK(t, keys.Check(t.Context()))
			if err := keys.Try(t.Context()); err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
	t.Run("hangs", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if err := sign.New(by("sleep 1000")).Try(ctx); err == nil {
			t.Error("it signed")
		}
	})
}

// However many signatures claim to be of the server's key, and are not, it signs; and it
// finds its own before and behind them. A program's own signature is only known by what the repository
// has.
func TestFalseSignatures(t *testing.T) {
	k := gpg.New(t)
	keys := sign.New(config.Sign{GPG: config.GPG{Homedir: k.Home(), Keys: []string{k.Fingerprint(0)}}})
	elsewhere := sign.New(config.Sign{Command: script(t, "exec gpg --batch --homedir "+k.Home()+" --local-user "+k.Fingerprint(0)+" --detach-sign")})
	other, err := keys.SignCommit(t.Context(), []byte("another commit"), nil, nil)
	must.OK(t, err)
	bad := signatures(t, other, "ostree.gpgsigs")[0]
	list := make([][]byte, 100)
	for i := range list {
		list[i] = bytes.Clone(bad)
		list[i][len(bad)-1], list[i][len(bad)-2] = byte(i), 1
	}
	theirs := gvariant.WriteDict([]gvariant.Entry{{Key: "ostree.gpgsigs", Value: gvariant.WriteVariant("aay", gvariant.WriteArray(1, list))}})
	for name, keys := range map[string]*sign.Keys{"here": keys, "elsewhere": elsewhere} {
		made, err := keys.SignCommit(t.Context(), []byte("a commit"), theirs, nil)
		must.OK(t, err)
		if list := signatures(t, made, "ostree.gpgsigs"); len(list) != 1 || !verified(t, k.Home(), []byte("a commit"), list[0]) {
			t.Errorf("%s: made %q", name, made)
		}
		for _, order := range [][2][]byte{{theirs, made}, {made, theirs}} {
			all, err := ostree.MergeCommitMeta(order[0], order[1])
			must.OK(t, err)
			again, err := keys.SignCommit(t.Context(), []byte("a commit"), all, made)
			must.OK(t, err)
			if again != nil {
				t.Errorf("%s: it signed again", name)
			}
		}
	}
}
