// SPDX-License-Identifier: AGPL-3.0-or-later

package mirror

import (
	"crypto/sha256"
	"testing"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/test/must"
)

// What is written again or dropped counts once or not at all: the cache keeps what else it
// has, however often detached metadata is read anew.
func TestCacheCountsFiles(t *testing.T) {
	c, err := openCache(t.TempDir(), 100)
	must.OK(t, err)
	kept := []byte("a tree")
	n := ostree.Name{Checksum: sha256.Sum256(kept), Type: ostree.DirTree}
	must.OK(t, c.put(n, kept))
	meta := ostree.Name{Checksum: n.Checksum, Type: ostree.CommitMeta}
	for range 50 {
		must.OK(t, c.put(meta, []byte("detached")))
	}
	must.OK(t, c.drop(meta))
	must.OK(t, c.drop(meta))
	if size := c.size; size != int64(len(kept)) || string(c.get(n)) != string(kept) {
		t.Errorf("the cache counts %d bytes, and has %q", size, c.get(n))
	}
}
