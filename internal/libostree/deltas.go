// SPDX-License-Identifier: AGPL-3.0-or-later

package libostree

/*
#cgo pkg-config: ostree-1
#include <stdlib.h>
#include <ostree.h>

static gboolean
generate_delta (OstreeRepo *repo, const char *from, const char *to, const char *superblock, guint max_bsdiff_size, GError **error)
{
  GVariantBuilder params;
  g_variant_builder_init (&params, G_VARIANT_TYPE_VARDICT);
  g_variant_builder_add (&params, "{sv}", "filename", g_variant_new_bytestring (superblock));
  g_variant_builder_add (&params, "{sv}", "max-bsdiff-size", g_variant_new_uint32 (max_bsdiff_size));
  GVariant *v = g_variant_ref_sink (g_variant_builder_end (&params));
  gboolean ok = ostree_repo_static_delta_generate (repo, OSTREE_STATIC_DELTA_GENERATE_OPT_MAJOR,
                                                   from, to, NULL, v, NULL, error);
  g_variant_unref (v);
  return ok;
}
*/
import "C"

import (
	"path/filepath"
	"unsafe"

	"github.com/lirios/ostree-upload/internal/ostree"
)

// GenerateDelta writes the static delta that leads to a commit, from another one or,
// if that is nil, from nothing, into a folder that is there: the file "superblock",
// after the parts "0", "1" and so on. It syncs none of them. An old and a new file of up
// to maxBsdiff MB (of 10^6 bytes) together are compared by bsdiff, which takes 17 times
// the size of the old one of memory; larger ones in a way that finds less
// (ostree_repo_static_delta_generate).
func (r *Repo) GenerateDelta(from *ostree.Checksum, to ostree.Checksum, folder string, maxBsdiff uint32) error {
	var cfrom *C.char
	if from != nil {
		cfrom = C.CString(from.String())
		defer C.free(unsafe.Pointer(cfrom))
	}
	cto := C.CString(to.String())
	defer C.free(unsafe.Pointer(cto))
	superblock := C.CString(filepath.Join(folder, "superblock"))
	defer C.free(unsafe.Pointer(superblock))
	var cerr *C.GError
	if C.generate_delta(r.c, cfrom, cto, superblock, C.guint(maxBsdiff), &cerr) == 0 {
		return failed("make a static delta to "+to.String(), cerr)
	}
	return nil
}

// ReindexDeltas writes the index of the static deltas that lead to a commit anew, or
// removes it if there are none, and sets core.indexed-deltas, by which clients know
// that there are indexes (ostree_repo_static_delta_reindex).
func (r *Repo) ReindexDeltas(to ostree.Checksum) error {
	cto := C.CString(to.String())
	defer C.free(unsafe.Pointer(cto))
	var cerr *C.GError
	if C.ostree_repo_static_delta_reindex(r.c, C.OSTREE_STATIC_DELTA_INDEX_FLAGS_NONE, cto, nil, &cerr) == 0 {
		return failed("index the static deltas to "+to.String(), cerr)
	}
	return nil
}
