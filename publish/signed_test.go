// SPDX-License-Identifier: AGPL-3.0-or-later

package publish_test

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/gvariant"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/gpg"
	"github.com/lirios/ostree-upload/test/must"
	ts "github.com/lirios/ostree-upload/test/server"
)

// signing makes a server sign with a key.
func signing(k *gpg.Keys, key int, summary string) func(*config.Config) {
	return func(c *config.Config) {
		c.Summary = summary
		c.Sign.GPG = config.GPG{Homedir: k.Home(), Keys: []string{k.Fingerprint(key)}}
	}
}

// A server that signs keeps up the summaries that are its own to sign; clients verify them
// and get the commit that was pushed. What others sign stays theirs, unless the
// configuration says otherwise.
func TestSignedSummary(t *testing.T) {
	t.Parallel()
	k := gpg.New(t)
	none := func(*testing.T, string) {}
	unsigned := func(t *testing.T, repo string) { must.OSTree(t, "summary", "--repo="+repo, "-u") }
	signedBy := func(key int) func(*testing.T, string) {
		return func(t *testing.T, repo string) { must.OK(t, k.SignSummary(repo, key)) }
	}
	set := func(key, value string) func(*testing.T, string) {
		return func(t *testing.T, repo string) { must.OSTree(t, "config", "--repo="+repo, "set", key, value) }
	}
	both := func(a, b func(*testing.T, string)) func(*testing.T, string) {
		return func(t *testing.T, repo string) {
			a(t, repo)
			b(t, repo)
		}
	}
	for name, tt := range map[string]struct {
		setting string
		prepare func(t *testing.T, repo string)
		words   string // in the session's detail, "" if there is none
		signed  bool
	}{
		"no summary, auto":       {config.SummaryAuto, none, "", true},
		"no summary, never":      {config.SummaryNever, none, "", false},
		"unsigned, auto":         {config.SummaryAuto, unsigned, "", true},
		"unsigned, never":        {config.SummaryNever, unsigned, "configuration says never", false},
		"its own key, auto":      {config.SummaryAuto, signedBy(0), "", true},
		"another's key, auto":    {config.SummaryAuto, signedBy(1), "by none of this server's keys", false},
		"another's key, always":  {config.SummaryAlways, signedBy(1), "", true},
		"another's key, never":   {config.SummaryNever, signedBy(1), "configuration says never", false},
		"for Flatpak, always":    {config.SummaryAlways, flatpakSummary, "summary.idx", false},
		"libostree's own, never": {config.SummaryNever, both(signedBy(0), set("core.auto-update-summary", "true")), "configuration says never", false},
		"libostree's own, auto":  {config.SummaryAuto, both(signedBy(0), set("core.auto-update-summary", "true")), "", true},
	} {
		t.Run(name, func(t *testing.T) {
			s := ts.Start(t, "archive")
			tt.prepare(t, s.Repo)
			before := summaryFiles(t, s.Repo)
			s.Change(signing(k, 0, tt.setting))
			repo, c := build(t, "one", "two")
			got := s.Client(s.Token).Push(repo, wire.Ref{Ref: "x", New: c[0].String()})
			want(t, got, wire.Published, "", tt.words)
			if (got.Detail != "") != (tt.words != "") {
				t.Errorf("detail %q", got.Detail)
			}
			if !tt.signed {
				if now := summaryFiles(t, s.Repo); now != before {
					t.Errorf("it was\n%q\nand is\n%q", before, now)
				}
				return
			}
			k.PullSigned(s.Repo, "x", 0)
			got = s.Client(s.Token).Push(repo, wire.Ref{Ref: "x", Old: c[0].String(), New: c[1].String()})
			want(t, got, wire.Published, "", "")
			k.PullSigned(s.Repo, "x", 0)
		})
	}
}

// The summary of a repository that is a collection says so, and is signed as a whole.
func TestSignedCollection(t *testing.T) {
	t.Parallel()
	k := gpg.New(t)
	s := ts.Start(t, "archive")
	must.OSTree(t, "config", "--repo="+s.Repo, "set", "core.collection-id", "org.example.OS")
	s.Change(signing(k, 0, config.SummaryAuto))
	repo, c := build(t, "one")
	want(t, s.Client(s.Token).Push(repo, wire.Ref{Ref: "x", New: c[0].String()}), wire.Published, "", "")
	must.OK(t, k.SummaryReader(s.Repo, 0).Read())
	if shown := must.OSTree(t, "summary", "--repo="+s.Repo, "--view"); !strings.Contains(shown, "org.example.OS") || !strings.Contains(shown, c[0].String()) {
		t.Errorf("the summary is\n%s", shown)
	}
}

// A summary that another program writes without a signature, or with that of an older
// summary, is signed again without a push, by each of the server's keys.
func TestSummaryIsSignedAgain(t *testing.T) {
	t.Parallel()
	k := gpg.New(t)
	file, public := ed25519Key(t)
	s := ts.Start(t, "archive")
	s.Change(signing(k, 0, config.SummaryAuto))
	s.Change(func(c *config.Config) { c.Sign.Ed25519 = file })
	signed := func() {
		t.Helper()
		must.OK(t, s.Publisher.RepairSummary(t.Context()))
		k.PullSigned(s.Repo, "", 0)
		summary, err := os.ReadFile(filepath.Join(s.Repo, "summary"))
		must.OK(t, err)
		wantEd25519(t, filepath.Join(s.Repo, "summary.sig"), public, summary, 1)
	}
	signed() // the first one
	must.OSTree(t, "summary", "--repo="+s.Repo, "-u")
	signed()
	old, err := os.ReadFile(filepath.Join(s.Repo, "summary.sig"))
	must.OK(t, err)
	must.OSTree(t, "summary", "--repo="+s.Repo, "-u")
	must.OK(t, os.WriteFile(filepath.Join(s.Repo, "summary.sig"), old, 0o644))
	signed()
	s.Change(signing(k, 1, config.SummaryAuto)) // another key: the file is still the server's own
	must.OK(t, s.Publisher.RepairSummary(t.Context()))
	k.PullSigned(s.Repo, "", 1)
}

// If the summary cannot be signed, the refs have moved, and clients find the pair that was
// there; it follows once signing works.
func TestSummaryCannotBeSigned(t *testing.T) {
	t.Parallel()
	k := gpg.New(t)
	s := ts.Start(t, "archive")
	s.Change(signing(k, 0, config.SummaryAuto))
	repo, c := build(t, "one", "two")
	want(t, s.Client(s.Token).Push(repo, wire.Ref{Ref: "x", New: c[0].String()}), wire.Published, "", "")
	before := summaryFiles(t, s.Repo)
	must.OK(t, os.Rename(k.Home(), k.Home()+".away"))
	back := func() { must.OK(t, os.Rename(k.Home()+".away", k.Home())) }
	got := s.Client(s.Token).Push(repo, wire.Ref{Ref: "x", Old: c[0].String(), New: c[1].String()})
	if s.Ref("x") != c[1].String() || summaryFiles(t, s.Repo) != before {
		t.Errorf("the ref is at %s; the pair was\n%q\nand is\n%q", s.Ref("x"), before, summaryFiles(t, s.Repo))
	}
	back()
	want(t, got, wire.Published, "", "sign.gpg: key "+k.Fingerprint(0))
	must.Wait(t, "the summary follows", func() bool { return summaryFiles(t, s.Repo) != before })
	k.PullSigned(s.Repo, "x", 0)
}

// While the summary cannot be signed, publishes do not wait for whatever signs it: the work
// does, with its pauses.
func TestPublishDoesNotWaitForSigner(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	signer, tries := filepath.Join(dir, "sign"), filepath.Join(dir, "tries")
	write := func(script string) { must.OK(t, os.WriteFile(signer, []byte(script), 0o600)) }
	s := ts.Start(t, "archive")
	write("head -c 64 /dev/zero")
	s.Change(func(c *config.Config) { c.Sign.Command = []string{"sh", signer} })
	repo, c := build(t, "one", "two", "three", "four")
	push := func(old string, i int) wire.Session {
		return s.Client(s.Token).Push(repo, wire.Ref{Ref: "x", Old: old, New: c[i].String()})
	}
	want(t, push("", 0), wire.Published, "", "")
	write("echo $OSTREE_UPLOAD_SIGN >>" + tries + "; exit 1")
	want(t, push(c[0].String(), 1), wire.Published, "", "sign.command: sh failed with exit status 1")
	want(t, push(c[1].String(), 2), wire.Published, "", "could not be written lately, which will be tried again: sign.command: sh failed")
	if b, err := os.ReadFile(tries); err != nil || string(b) != "summary\n" {
		t.Errorf("it was tried: %q, %v", b, err)
	}
	write("head -c 64 /dev/zero")
	s.Publisher.RetryWorks()
	must.Wait(t, "the summary is signed", func() bool {
		w, err := s.Journal.Works()
		must.OK(t, err)
		return len(w) == 0
	})
	want(t, push(c[2].String(), 3), wire.Published, "", "")
	if shown := must.OSTree(t, "summary", "--repo="+s.Repo, "--view"); !strings.Contains(shown, c[3].String()) {
		t.Errorf("the summary is\n%s", shown)
	}
}

// ed25519Key makes a file of one key.
func ed25519Key(t *testing.T) (path string, public ed25519.PublicKey) {
	t.Helper()
	public, secret, err := ed25519.GenerateKey(nil)
	must.OK(t, err)
	path = filepath.Join(t.TempDir(), "ed25519")
	must.OK(t, os.WriteFile(path, []byte(base64.StdEncoding.EncodeToString(secret)), 0o600))
	return path, public
}

// wantEd25519 checks that a file of signatures has so many of a key, all over data.
func wantEd25519(t *testing.T, path string, public ed25519.PublicKey, data []byte, n int) {
	t.Helper()
	b, err := os.ReadFile(path)
	must.OK(t, err)
	must.OK(t, ostree.ParseCommitMeta(b))
	good := 0
	for _, e := range gvariant.Dict(b) {
		value, ok := gvariant.Value(e.Value, "aay")
		if e.Key != "ostree.sign.ed25519" || !ok {
			continue
		}
		aay := gvariant.MustParse("aay")
		for a, i := aay.Elements(value), 0; i < a.Len(); i++ {
			if ed25519.Verify(public, data, a.At(i)) {
				good++
			}
		}
	}
	if good != n {
		t.Errorf("%s has %d good signatures, want %d", path, good, n)
	}
}

// With sign.commits each commit that a session brings has the server's signatures before a
// ref names it, beside those of others, and no second one when another ref moves to it.
func TestSignedCommits(t *testing.T) {
	t.Parallel()
	k := gpg.New(t)
	file, public := ed25519Key(t)
	s := ts.Start(t, "archive")
	s.Change(signing(k, 0, config.SummaryAuto))
	s.Change(func(c *config.Config) { c.Sign.Commits, c.Sign.Ed25519 = true, file })
	repo, c := build(t, "one", "two", "three")
	k.Sign(repo, c[1].String(), 1)
	want(t, s.Client(s.Token).Push(repo, wire.Ref{Ref: "x", New: c[1].String()}), wire.Published, "", "")
	want(t, s.Client(s.Token).Push(repo, wire.Ref{Ref: "y", New: c[1].String()}), wire.Published, "", "")
	want(t, s.Client(s.Token).Push(repo, wire.Ref{Ref: "y", Old: c[1].String(), New: c[2].String()}), wire.Published, "", "")
	k.Verify(s.Repo, "x", 0)
	k.Verify(s.Repo, "x", 1)
	k.Verify(s.Repo, "y", 0)
	for i, commit := range c {
		name := func(typ ostree.Type) string {
			return filepath.Join(s.Repo, "objects", ostree.Name{Checksum: commit, Type: typ}.Path())
		}
		b, err := os.ReadFile(name(ostree.CommitObject))
		if errors.Is(err, fs.ErrNotExist) && i == 0 {
			continue // the push was of the newer one alone
		}
		must.OK(t, err)
		wantEd25519(t, name(ostree.CommitMeta), public, b, 1)
		shown := must.OSTree(t, "show", "--repo="+s.Repo, "--gpg-homedir="+k.Home(), commit.String())
		if wanted := []string{"", "Found 2 signatures:", "Found 1 signature:"}[i]; !strings.Contains(shown, wanted) {
			t.Errorf("commit %d: %s, want %s", i, shown, wanted)
		}
	}
}

// Clients verify a commit although a push brought a signature that merely claims to be of
// the server's key, whichever way that signs.
func TestFalselySignedCommits(t *testing.T) {
	t.Parallel()
	k := gpg.New(t)
	for _, keys := range []config.Sign{
		{GPG: config.GPG{Homedir: k.Home(), Keys: []string{k.Fingerprint(0)}}},
		{Command: []string{"gpg", "--batch", "--homedir", k.Home(), "--local-user", k.Fingerprint(0), "--detach-sign"}},
	} {
		s := ts.Start(t, "archive")
		keys.Commits = true
		s.Change(func(c *config.Config) { c.Sign, c.Summary = keys, config.SummaryNever })
		repo, c := build(t, "one", "two")
		k.Sign(repo, c[0].String(), 0)
		meta := func(c ostree.Checksum) string {
			return filepath.Join(repo, "objects", ostree.Name{Checksum: c, Type: ostree.CommitMeta}.Path())
		}
		must.OK(t, os.Rename(meta(c[0]), meta(c[1]))) // of another commit
		want(t, s.Client(s.Token).Push(repo, wire.Ref{Ref: "x", New: c[1].String()}), wire.Published, "", "")
		k.Verify(s.Repo, "x", 0)
	}
}

// A commit that cannot be signed is not published; nothing has changed, the session says
// why, and another try publishes it.
func TestCommitCannotBeSigned(t *testing.T) {
	t.Parallel()
	k := gpg.New(t)
	locked := k.Locked("secret")
	s := ts.Start(t, "archive")
	s.Change(signing(k, 0, config.SummaryNever))
	s.Change(func(c *config.Config) { c.Sign.Commits, c.Sign.GPG.Keys = true, []string{locked} })
	repo, c := build(t, "one")
	got := s.Client(s.Token).Push(repo, wire.Ref{Ref: "x", New: c[0].String()})
	want(t, got, wire.Open, wire.Internal, "it has a passphrase")
	if s.Ref("x") != "" || has(t, s.Repo, c[0]) {
		t.Error("something has changed")
	}
	s.Change(signing(k, 1, config.SummaryNever))
	want(t, s.Client(s.Token).Finalize(got.ID), wire.Published, "", "")
	k.Verify(s.Repo, "x", 1)
}

// The static deltas that the repository has stay in its summary, which is made elsewhere,
// and in their indexes; its configuration says that there are such.
func TestSummaryHasDeltas(t *testing.T) {
	t.Parallel()
	s := ts.Start(t, "archive")
	s.Change(func(c *config.Config) { c.Summary = config.SummaryAlways })
	repo, c := build(t, "one", "two")
	want(t, s.Client(s.Token).Push(repo, wire.Ref{Ref: "x", New: c[0].String()}), wire.Published, "", "")
	must.OSTree(t, "static-delta", "generate", "--repo="+s.Repo, "--empty", "--to=x")
	want(t, s.Client(s.Token).Push(repo, wire.Ref{Ref: "x", Old: c[0].String(), New: c[1].String()}), wire.Published, "", "")
	if shown := must.OSTree(t, "summary", "--repo="+s.Repo, "--view"); !strings.Contains(shown, c[0].String()) || !strings.Contains(shown, c[1].String()) {
		t.Errorf("the summary is\n%s", shown)
	}
	indexes, err := filepath.Glob(filepath.Join(s.Repo, "delta-indexes/*/*.index"))
	must.OK(t, err)
	if len(indexes) != 1 || must.OSTree(t, "config", "--repo="+s.Repo, "get", "core.indexed-deltas") != "true" {
		t.Errorf("indexes %v", indexes)
	}
	left, err := filepath.Glob(filepath.Join(s.Repo, "tmp/ostree-upload*"))
	must.OK(t, err)
	if len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// Web servers tell versions of a file apart by its second: each summary has another than
// the one before, and its signature the same.
func TestSummaryTimes(t *testing.T) {
	t.Parallel()
	k := gpg.New(t)
	s := ts.Start(t, "archive")
	s.Change(signing(k, 0, config.SummaryAuto))
	repo, c := build(t, "one", "two", "three")
	var last int64
	for i, old := range []string{"", c[0].String(), c[1].String()} {
		want(t, s.Client(s.Token).Push(repo, wire.Ref{Ref: "x", Old: old, New: c[i].String()}), wire.Published, "", "")
		var times []time.Time
		for _, name := range []string{"summary", "summary.sig"} {
			info, err := os.Stat(filepath.Join(s.Repo, name))
			must.OK(t, err)
			times = append(times, info.ModTime())
		}
		if !times[0].Equal(times[1]) || times[0].Unix() <= last {
			t.Errorf("publish %d: %v, after %v", i, times, time.Unix(last, 0))
		}
		last = times[0].Unix()
	}
}

// In a repository that a group shares, the group may write the summary and its signature;
// others may read both.
func TestSummaryMode(t *testing.T) {
	k := gpg.New(t)
	s := ts.Start(t, "archive")
	for umask, mode := range map[int]fs.FileMode{0o002: 0o664, 0o022: 0o644} {
		s.Change(signing(k, 0, config.SummaryAuto))
		repo, c := build(t, "one")
		before := unix.Umask(umask)
		got := s.Client(s.Token).Push(repo, wire.Ref{Ref: fmt.Sprint("x", umask), New: c[0].String()})
		unix.Umask(before)
		want(t, got, wire.Published, "", "")
		for _, name := range []string{"summary", "summary.sig"} {
			info, err := os.Stat(filepath.Join(s.Repo, name))
			must.OK(t, err)
			if info.Mode() != mode {
				t.Errorf("%s has the mode %v, want %v", name, info.Mode(), mode)
			}
		}
	}
}
