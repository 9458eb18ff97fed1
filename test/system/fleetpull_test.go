// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package system

import (
	"testing"

	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/site"
	"github.com/lirios/ostree-upload/test/store"
)

// What was pushed into a bucket comes out of it by plain HTTP, whole, and took one
// request for each object and hardly any other.
func TestPullFromBucket(t *testing.T) {
	t.Parallel()
	b := site.Big(t)
	f := newFleet(t, 1, []string{"ci"})
	f.url = "unix:" + f.receivers[0].socket()
	before, err := f.store.Requests()
	must.OK(t, err)
	site.Finish(t, f.command("ci", "push", "--repo", b.Repo)).Must(t, 0)
	after, err := f.store.Requests()
	must.OK(t, err)
	since := store.Since(before, after)
	all := 0
	for _, n := range since {
		all += n
	}
	t.Logf("%d objects: %s", b.Objects, store.Told(since))
	if since["PutObject"] < b.Objects || all > b.Objects+50 {
		t.Errorf("%d requests for %d objects: %s", all, b.Objects, store.Told(since))
	}
	copied := f.pull(b.Ref)
	if got := must.OSTree(t, "rev-parse", "--repo="+copied, b.Ref); got != b.Commit {
		t.Errorf("pulled %s, want %s", got, b.Commit)
	}
}
