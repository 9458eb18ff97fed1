// SPDX-License-Identifier: AGPL-3.0-or-later

package publish_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	ts "github.com/lirios/ostree-upload/test/server"
)

// gpg is a GnuPG home with two secret keys.
type gpg struct {
	t    *testing.T
	home string
	keys [2]string
}

func newGPG(t *testing.T) *gpg {
	t.Helper()
	// Not t.TempDir, whose path may be too long for the agent's socket.
	home, err := os.MkdirTemp("", "gpg")
	ts.Must(t, err)
	t.Cleanup(func() {
		// The agent keeps the folder in use until it is told to end.
		_ = exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run()
		ts.Must(t, os.RemoveAll(home))
	})
	g := &gpg{t: t, home: home}
	for i := range g.keys {
		g.keys[i] = fmt.Sprintf("key%d@example.org", i)
		ts.Command(t, "gpg", "--homedir", home, "--batch", "--passphrase", "", "--quick-generate-key", g.keys[i], "ed25519", "sign", "never")
	}
	return g
}

func (g *gpg) sign(repo, commit string, key int) {
	g.t.Helper()
	ts.Command(g.t, "ostree", "gpg-sign", "--repo="+repo, "--gpg-homedir="+g.home, commit, g.keys[key])
}

// verify pulls a ref with an ordinary client that trusts just one of the keys.
func (g *gpg) verify(repo, ref string, key int) {
	g.t.Helper()
	public := filepath.Join(g.t.TempDir(), "key.gpg")
	ts.Command(g.t, "gpg", "--homedir", g.home, "--batch", "--output", public, "--export", g.keys[key])
	client := filepath.Join(g.t.TempDir(), "client")
	ts.Command(g.t, "ostree", "init", "--repo="+client, "--mode=archive")
	ts.Command(g.t, "ostree", "remote", "add", "--repo="+client, "--gpg-import="+public, "prod", "file://"+repo)
	ts.Command(g.t, "ostree", "pull", "--repo="+client, "prod", ref)
}
