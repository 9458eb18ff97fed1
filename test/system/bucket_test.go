// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package system

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/site"
)

// What the disk of an object store damaged is found and replaced by a repair, although the
// store's own checksum of it does not fit any more.
func TestRepairOfDamagedStore(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1, []string{"ci"})
	f.url = "unix:" + f.receivers[0].socket()
	b := site.Small(t, "os/x", "rot")
	site.Finish(t, f.command("ci", "push", "--repo", b.Repo, b.Ref)).Must(t, 0)
	files, damaged := objectsOf(t, filepath.Join(f.store.Folder, fleetBucket, fleetPrefix))
	damaged = append(damaged, files[0])
	for _, path := range damaged {
		must.OK(t, writeAt(path, 1, []byte("damaged")))
	}
	r := site.Finish(t, f.command("ci", "push", "--repo", b.Repo, "--repair", "--json", b.Ref)).Must(t, 0).Result(t)
	if r.Repair == nil || r.Repair.Absent != int64(len(damaged)) {
		t.Errorf("%d objects were damaged, and the repair says %+v", len(damaged), r.Repair)
	}
	f.pull(b.Ref)
}

// Two servers of one bucket that have one state folder are told apart from two of one
// repository on the disk, since of the others there may be many.
func TestOneStateOfTwo(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1, nil)
	second := f.receive(f.receivers[0], "--wait-lock", "0")
	e := site.Finish(t, second).Must(t, 1)
	for _, words := range []string{"another ostree-upload serves s3://repo/os with the state folder state", "each server of a bucket needs a state folder of its own"} {
		if !strings.Contains(e.Stderr, words) {
			t.Errorf("it does not say %q:\n%s", words, e.Stderr)
		}
	}
}
