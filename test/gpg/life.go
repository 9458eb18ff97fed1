// SPDX-License-Identifier: AGPL-3.0-or-later

package gpg

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/lirios/ostree-upload/test/must"
)

// Export writes the public keys of the home to a file, or those of some of its keys.
func (k *Keys) Export(path string, armor bool, keys ...int) {
	k.t.Helper()
	args := []string{"--yes", "--output", path}
	if armor {
		args = append(args, "--armor")
	}
	args = append(args, "--export")
	for _, key := range keys {
		args = append(args, k.ids[key])
	}
	k.gpg(args...)
}

// Expire lets a key expire after a time from now, such as 2d.
func (k *Keys) Expire(key int, after string) {
	k.t.Helper()
	k.gpg("--quick-set-expire", k.Fingerprint(key), after)
}

// AddSubkey gives a key a subkey, by which it signs from now on.
func (k *Keys) AddSubkey(key int) {
	k.t.Helper()
	k.gpg("--passphrase", "", "--quick-add-key", k.Fingerprint(key), "ed25519", "sign", "never")
}

// Revoke revokes a key by the certificate that was made with it.
func (k *Keys) Revoke(key int) {
	k.t.Helper()
	path := filepath.Join(k.home, "openpgp-revocs.d", k.Fingerprint(key)+".rev")
	text, err := os.ReadFile(path)
	must.OK(k.t, err)
	// A colon keeps it from being used by mistake.
	must.OK(k.t, os.WriteFile(path, []byte(strings.Replace(string(text), ":-----BEGIN", "-----BEGIN", 1)), 0o600))
	k.gpg("--import", path)
}
