// SPDX-License-Identifier: AGPL-3.0-or-later

// Package gpg signs commits in a test, and verifies them as clients do.
package gpg

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
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

func (k *Keys) gpg(args ...string) {
	k.t.Helper()
	must.Run(k.t, "gpg", append([]string{"--homedir", k.home, "--batch"}, args...)...)
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
	dir := k.t.TempDir()
	public, client := filepath.Join(dir, "key.gpg"), filepath.Join(dir, "client")
	k.gpg("--output", public, "--export", k.ids[key])
	must.OSTree(k.t, "init", "--repo="+client, "--mode=archive")
	must.OSTree(k.t, "remote", "add", "--repo="+client, "--set=gpg-verify=false", "--set="+setting+"=true",
		"--gpg-import="+public, "prod", "file://"+repo)
	return client
}

func run(cmd *exec.Cmd) error {
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", cmd, err, out)
	}
	return nil
}
