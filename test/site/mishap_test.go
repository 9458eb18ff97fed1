// SPDX-License-Identifier: AGPL-3.0-or-later

package site

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/lirios/ostree-upload/test/must"
)

// A case that could not be run is run again, and counts once.
func TestCaseIsRunAgain(t *testing.T) {
	runs := 0
	EveryMishap(t, []string{"point#1"}, []string{"EIO"}, 1, func(t *testing.T, f *Mishap) {
		if runs++; runs < attempts {
			t.Skip("what it stands on failed")
		}
		must.OK(t, os.WriteFile(f.Record, []byte("1 point#1\n"), 0o600))
	})
	if runs != attempts {
		t.Errorf("it was run %d times, not %d", runs, attempts)
	}
}

// A disk comes back from a power cut readable, also when another mount namespace
// has kept it mounted for a while.
func TestRestore(t *testing.T) {
	d := NewDisk(t, 16<<20)
	file := filepath.Join(d.Dir, "file")
	must.OK(t, os.WriteFile(file, []byte("synced"), 0o600))
	must.Run(t, "sync", "-f", d.Dir)
	other := exec.Command("unshare", "--mount", "sh", "-c", "echo; exec sleep 1")
	out, err := other.StdoutPipe()
	must.OK(t, err)
	must.OK(t, other.Start())
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Skipf("no mount namespace here: %v", other.Wait())
	}
	d.Cut()
	must.OK(t, d.Restore())
	if b, err := os.ReadFile(file); err != nil || string(b) != "synced" {
		t.Errorf("it holds %q, %v", b, err)
	}
	must.OK(t, other.Wait())
}
