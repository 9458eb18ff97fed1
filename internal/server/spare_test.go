// SPDX-License-Identifier: AGPL-3.0-or-later

package server

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/test/must"
)

// TestSpare pins that a commit which no ref reaches stays for a day from when that was
// first seen, and that its time begins anew after a ref reached it, or when the file is
// lost.
func TestSpare(t *testing.T) {
	state, start := t.TempDir(), time.Now()
	x, y := ostree.Checksum{1}, ostree.Checksum{2}
	want := func(after time.Duration, stays map[ostree.Checksum]bool) {
		t.Helper()
		var unreached []ostree.Checksum
		for c := range stays {
			unreached = append(unreached, c)
		}
		got, err := spare(state, unreached, start.Add(after))
		must.OK(t, err)
		for c, stay := range stays {
			if got[c] != stay {
				t.Errorf("after %v: %s stays is %t, want %t", after, c, got[c], stay)
			}
		}
	}
	const hour = time.Hour
	want(0, map[ostree.Checksum]bool{x: true})
	want(20*hour, map[ostree.Checksum]bool{x: true, y: true})
	want(24*hour, map[ostree.Checksum]bool{x: false, y: true})
	want(25*hour, map[ostree.Checksum]bool{x: false})
	want(45*hour, map[ostree.Checksum]bool{y: true}) // a ref reached it in between
	must.OK(t, os.WriteFile(filepath.Join(state, unreachedFile), []byte("damaged"), 0o600))
	want(70*hour, map[ostree.Checksum]bool{x: true, y: true})
	want(0, map[ostree.Checksum]bool{x: true}) // the clock was set back
	want(24*hour, map[ostree.Checksum]bool{x: false})
}
