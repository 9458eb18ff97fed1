// SPDX-License-Identifier: AGPL-3.0-or-later

package install

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/test/must"
)

// units are copies of the units whose program is one that this machine has.
func units(t *testing.T) (paths []string) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("needs systemd-analyze")
	}
	folder := t.TempDir()
	for _, name := range []string{"ostree-upload.service", "ostree-upload.socket"} {
		text, err := os.ReadFile("../../packaging/systemd/" + name)
		must.OK(t, err)
		path := filepath.Join(folder, name)
		must.OK(t, os.WriteFile(path, []byte(strings.ReplaceAll(string(text), "/usr/bin/ostree-upload", "/bin/true")), 0o644))
		paths = append(paths, path)
	}
	return paths
}

// systemd finds no fault with the units.
func TestUnitsVerify(t *testing.T) {
	args := append([]string{"verify", "--man=no"}, units(t)...)
	if out := must.Run(t, "systemd-analyze", args...); out != "" {
		t.Errorf("systemd-analyze verify says:\n%s", out)
	}
}

// The service is exposed by 2.0 of 10 at most, as systemd counts.
func TestUnitsSecurity(t *testing.T) {
	must.Run(t, "systemd-analyze", "security", "--no-pager", "--offline=true", "--threshold=20", units(t)[0])
}
