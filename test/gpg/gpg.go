// SPDX-License-Identifier: AGPL-3.0-or-later

// Package gpg signs commits in a test, and verifies them as clients do.
package gpg

import (
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/test/must"
)

// Keys is a GnuPG home with two secret keys, which are named by number.
type Keys struct {
	t    testing.TB
	home string
	ids  [2]string
}

// New makes keys that are gone when the test ends.
func New(t testing.TB) *Keys {
	t.Helper()
	// Not t.TempDir, whose path may be too long for the agent's socket.
	home, err := os.MkdirTemp("", "gpg")
	must.OK(t, err)
	t.Cleanup(func() {
		// The agent keeps the folder in use until it is told to end.
		_ = exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run()
		must.OK(t, os.RemoveAll(home))
	})
	k := &Keys{t: t, home: home}
	for i := range k.ids {
		k.ids[i] = fmt.Sprintf("key%d@example.org", i)
		k.gpg("--passphrase", "", "--quick-generate-key", k.ids[i], "ed25519", "sign", "never")
	}
	return k
}

// Home is their folder.
func (k *Keys) Home() string { return k.home }

// Fingerprint is that of a key.
func (k *Keys) Fingerprint(key int) string {
	k.t.Helper()
	return k.fingerprint(k.ids[key])
}

func (k *Keys) fingerprint(id string) string {
	k.t.Helper()
	for line := range strings.Lines(k.gpg("--with-colons", "--list-keys", id)) {
		if fields := strings.Split(line, ":"); fields[0] == "fpr" {
			return fields[9]
		}
	}
	k.t.Fatalf("there is no key %s in %s", id, k.home)
	return ""
}

// Expired makes one more key, which is not in force any more, and gives its fingerprint.
func (k *Keys) Expired() string {
	k.t.Helper()
	return k.more("expired", "--faked-system-time", "20200101T000000", "--passphrase", "", "--quick-generate-key", "expired@example.org", "ed25519", "sign", "1d")
}

// Locked makes one more key, with a passphrase that the agent does not know, and gives its
// fingerprint.
func (k *Keys) Locked(passphrase string) string {
	k.t.Helper()
	print := k.more("locked", "--pinentry-mode", "loopback", "--passphrase", passphrase, "--quick-generate-key", "locked@example.org", "ed25519", "sign", "never")
	must.Run(k.t, "gpgconf", "--homedir", k.home, "--kill", "gpg-agent") // which knows it since it made the key
	return print
}

func (k *Keys) more(name string, generate ...string) string {
	k.t.Helper()
	k.gpg(generate...)
	return k.fingerprint(name + "@example.org")
}

// Settings are the configuration of a server that signs with a key.
func (k *Keys) Settings(key int) string {
	return fmt.Sprintf("{homedir: %s, keys: [%s]}", k.home, k.Fingerprint(key))
}

func (k *Keys) gpg(args ...string) string {
	k.t.Helper()
	return must.Run(k.t, "gpg", append([]string{"--homedir", k.home, "--batch"}, args...)...)
}

// Sign signs a commit of a repository.
func (k *Keys) Sign(repo, commit string, key int) {
	k.t.Helper()
	must.OSTree(k.t, "gpg-sign", "--repo="+repo, "--gpg-homedir="+k.home, commit, k.ids[key])
}

// SignSummary writes a repository's summary and signs it, as its owner's cron does.
func (k *Keys) SignSummary(repo string, key int) error {
	return run(exec.Command("ostree", "summary", "--update", "--repo="+repo, "--gpg-homedir="+k.home, "--gpg-sign="+k.ids[key]))
}

// Verify pulls a ref with an ordinary client that trusts just one of the keys.
func (k *Keys) Verify(repo, ref string, key int) {
	k.t.Helper()
	must.OSTree(k.t, "pull", "--repo="+k.client(repo, key, "gpg-verify"), "prod", ref)
}

// PullSigned pulls a ref, or all if it is "", with an ordinary client that trusts just one
// of the keys and takes the summary only if it is signed.
func (k *Keys) PullSigned(repo, ref string, key int) {
	k.t.Helper()
	args := []string{"pull", "--repo=" + k.client(repo, key, "gpg-verify-summary"), "prod"}
	if ref == "" {
		args = append(args, "--mirror")
	} else {
		args = append(args, ref)
	}
	must.OSTree(k.t, args...)
}

// A SummaryReader is a client that takes a repository's summary only if it is
// signed.
type SummaryReader struct{ client string }

// SummaryReader makes a client that trusts just one of the keys.
func (k *Keys) SummaryReader(repo string, key int) SummaryReader {
	k.t.Helper()
	return SummaryReader{k.client(repo, key, "gpg-verify-summary")}
}

// Read reads the summary as it is now.
func (r SummaryReader) Read() error {
	return run(exec.Command("ostree", "remote", "summary", "--repo="+r.client, "prod"))
}

// client makes a client of a repository that trusts just one of the keys, and
// verifies by it what a setting says and nothing else.
func (k *Keys) client(repo string, key int, setting string) string {
	k.t.Helper()
	return k.Client((&url.URL{Scheme: "file", Path: repo}).String(), key, "gpg-verify=false", setting+"=true")
}

// Client makes a client of a remote, named prod, that trusts just one of the keys.
func (k *Keys) Client(url string, key int, settings ...string) (repo string) {
	k.t.Helper()
	dir := k.t.TempDir()
	public, repo := filepath.Join(dir, "key.gpg"), filepath.Join(dir, "client")
	k.gpg("--output", public, "--export", k.ids[key])
	must.OSTree(k.t, "init", "--repo="+repo, "--mode=archive")
	args := []string{"remote", "add", "--repo=" + repo, "--gpg-import=" + public}
	for _, s := range settings {
		args = append(args, "--set="+s)
	}
	must.OSTree(k.t, append(args, "prod", url)...)
	return repo
}

func run(cmd *exec.Cmd) error {
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", cmd, err, out)
	}
	return nil
}
