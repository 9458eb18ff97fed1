// SPDX-License-Identifier: AGPL-3.0-or-later

package libostree

/*
#include <stdlib.h>
#include <ostree.h>

static gboolean not_found (GError *e) { return g_error_matches (e, G_IO_ERROR, G_IO_ERROR_NOT_FOUND); }
*/
import "C"

import (
	"unsafe"

	"github.com/lirios/ostree-upload/internal/ostree"
)

// Remove removes an object; one that is not there is no error. With a commit go its
// detached metadata and what says that it is incomplete, and a tombstone takes its
// place if core.tombstone-commits asks for that. The caller holds the exclusive lock.
func (r *Repo) Remove(n ostree.Name) error {
	sum := C.CString(n.Checksum.String())
	defer C.free(unsafe.Pointer(sum))
	var cerr *C.GError
	if C.ostree_repo_delete_object(r.c, C.OstreeObjectType(n.Type), sum, nil, &cerr) == 0 {
		if C.not_found(cerr) == 0 {
			return failed("remove "+n.String(), cerr)
		}
		C.g_clear_error(&cerr)
	}
	if n.Type == ostree.CommitObject {
		return r.MarkComplete(n.Checksum)
	}
	return nil
}

// PruneDeltas removes the static deltas to commits that are not there, and tells how
// many. The caller holds the exclusive lock.
func (r *Repo) PruneDeltas() (removed int, err error) {
	before, err := r.Deltas()
	if err != nil {
		return 0, err
	}
	var cerr *C.GError
	if C.ostree_repo_prune_static_deltas(r.c, nil, nil, &cerr) == 0 {
		return 0, failed("remove static deltas", cerr)
	}
	after, err := r.Deltas()
	return len(before) - len(after), err
}

// Deltas names the static deltas: the commit that each leads to, behind a hyphen if it
// begins at another commit.
func (r *Repo) Deltas() (list []string, err error) {
	var cerr *C.GError
	var names *C.GPtrArray
	if C.ostree_repo_list_static_delta_names(r.c, &names, nil, &cerr) == 0 {
		return nil, failed("list static deltas", cerr)
	}
	defer C.g_ptr_array_unref(names)
	for _, name := range unsafe.Slice((**C.char)(unsafe.Pointer(names.pdata)), names.len) {
		list = append(list, C.GoString(name))
	}
	return list, nil
}
