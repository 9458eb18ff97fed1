// SPDX-License-Identifier: AGPL-3.0-or-later

package publish_test

import (
	"testing"

	"github.com/lirios/ostree-upload/internal/wire"
	ts "github.com/lirios/ostree-upload/test/server"
)

// A repository in a bucket is pushed to as one on the disk.
func TestBucket(t *testing.T) {
	repo, c := build(t, "one", "two", "three")
	s := ts.Start(t, ts.InBucket)
	client := s.Client(s.Token)
	want(t, client.Push(repo, wire.Ref{Ref: "x", New: c[0].String()}), wire.Published, "", "")
	want(t, client.Push(repo, wire.Ref{Ref: "x", Old: c[0].String(), New: c[1].String()}), wire.Published, "", "")
	if s.Ref("x") != c[1].String() {
		t.Error(s.Ref("x"))
	}
}
