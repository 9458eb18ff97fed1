// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package system

import (
	"path/filepath"
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
