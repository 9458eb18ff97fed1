// SPDX-License-Identifier: AGPL-3.0-or-later

// Package libostree is the only cgo of the project: what publishing needs from
// libostree and ostree-go lacks. It works on the OstreeRepo that ostree-go
// opened.
//
// A Repo serves one publish, in one goroutine at a time but for Import: threads
// that share an OstreeRepo do not exclude each other through its lock. Whatever
// is imported must have been verified before; nothing here checks an object's
// content.
package libostree

/*
#cgo pkg-config: ostree-1
#include <stdlib.h>
#include <ostree.h>

// The keys of a summary's metadata, as a NULL-terminated array to g_strfreev.
static char **
summary_keys (const void *data, gsize size)
{
  GBytes *bytes = g_bytes_new (data, size);
  GVariant *v = g_variant_ref_sink (g_variant_new_from_bytes (OSTREE_SUMMARY_GVARIANT_FORMAT, bytes, FALSE));
  GVariant *metadata = g_variant_get_child_value (v, 1);
  GPtrArray *keys = g_ptr_array_new ();
  for (gsize i = 0; i < g_variant_n_children (metadata); i++)
    {
      GVariant *entry = g_variant_get_child_value (metadata, i);
      char *key;
      g_variant_get_child (entry, 0, "s", &key);
      g_ptr_array_add (keys, key);
      g_variant_unref (entry);
    }
  g_ptr_array_add (keys, NULL);
  g_variant_unref (metadata);
  g_variant_unref (v);
  g_bytes_unref (bytes);
  return (char **) g_ptr_array_free (keys, FALSE);
}

static gboolean would_block (GError *e) { return g_error_matches (e, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK); }
static gboolean no_space (GError *e) { return g_error_matches (e, G_IO_ERROR, G_IO_ERROR_NO_SPACE); }
*/
import "C"

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unsafe"

	"github.com/ostreedev/ostree-go/pkg/otbuiltin"
	"golang.org/x/sys/unix"

	"github.com/lirios/ostree-upload/internal/durable"
	"github.com/lirios/ostree-upload/internal/ostree"
)

// ErrLocked says that another process held the repository's lock for longer
// than its core.lock-timeout-secs. Trying again later may succeed.
var ErrLocked = errors.New("the repository is locked by another process")

// Repo is an open repository.
type Repo struct {
	ot *otbuiltin.Repo
	c  *C.OstreeRepo
}

// otbuiltin.Repo is one pointer, the OstreeRepo; this fails to compile when it
// is not.
var _ [unsafe.Sizeof(otbuiltin.Repo{})]byte = [unsafe.Sizeof(uintptr(0))]byte{}

// Init creates an empty repository of a mode ("archive", "bare", "bare-user",
// "bare-user-only") in the folder path. A repository that exists is an error.
func Init(path, mode string) error {
	options := otbuiltin.NewInitOptions()
	options.Mode = mode
	if _, err := otbuiltin.Init(path, options); err != nil {
		return fmt.Errorf("create repository %s: %w", path, plain(err))
	}
	return nil
}

// Open opens the repository in the folder path. The caller closes it. core.fsync does
// not count for what is done through it: what is written is synced before it gets its
// name. Nor does core.auto-update-summary, which libostree asks for a transaction that
// moves refs: none here does.
func Open(path string) (*Repo, error) {
	ot, err := otbuiltin.OpenRepo(path)
	if err != nil {
		return nil, fmt.Errorf("open repository %s: %w", path, plain(err))
	}
	r := &Repo{ot: ot, c: *(**C.OstreeRepo)(unsafe.Pointer(ot))}
	C.ostree_repo_set_disable_fsync(r.c, 0)
	return r, nil
}

// Close releases the repository and whatever lock it still holds.
func (r *Repo) Close() {
	C.g_object_unref(C.gpointer(r.c))
	r.c = nil
}

// LockKind is shared (transactions) or exclusive (prune).
type LockKind C.OstreeRepoLockType

// The kinds of lock of ostree_repo_lock_push.
const (
	Shared    LockKind = C.OSTREE_REPO_LOCK_SHARED
	Exclusive LockKind = C.OSTREE_REPO_LOCK_EXCLUSIVE
)

// Lock takes the repository's lock, or turns a shared one into an exclusive
// one, and waits as long as the repository's core.lock-timeout-secs says. Each
// Lock needs its Unlock. The error is ErrLocked when the time is over, and
// ctx's when that ends first.
func (r *Repo) Lock(ctx context.Context, kind LockKind) error {
	if ctx.Err() != nil { // else it is a matter of which thread is faster
		return ctx.Err()
	}
	cancel := C.g_cancellable_new()
	defer C.g_object_unref(C.gpointer(cancel))
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		C.g_cancellable_cancel(cancel)
		close(done)
	})
	defer func() {
		if !stop() {
			<-done
		}
	}()
	var cerr *C.GError
	if C.ostree_repo_lock_push(r.c, C.OstreeRepoLockType(kind), cancel, &cerr) != 0 {
		return nil
	}
	if ctx.Err() != nil {
		C.g_clear_error(&cerr)
		return ctx.Err()
	}
	return failed("lock the repository", cerr)
}

// Unlock undoes one Lock of the same kind.
func (r *Repo) Unlock(kind LockKind) error {
	var cerr *C.GError
	if C.ostree_repo_lock_pop(r.c, C.OstreeRepoLockType(kind), nil, &cerr) == 0 {
		return failed("unlock the repository", cerr)
	}
	return nil
}

// Begin starts a transaction. It ends with Commit or Abort.
func (r *Repo) Begin() error {
	if _, err := r.ot.PrepareTransaction(); err != nil {
		return fmt.Errorf("begin a transaction: %w", plain(err))
	}
	return nil
}

// Commit makes the transaction's objects durable and visible.
// The error is durable.ErrNotSynced if a sync failed.
func (r *Repo) Commit() error {
	// Not through ostree-go: it passes a smaller struct than libostree fills.
	var cerr *C.GError
	if C.ostree_repo_commit_transaction(r.c, nil, nil, &cerr) == 0 {
		return failed("commit the transaction", cerr)
	}
	return nil
}

// Abort drops the transaction.
func (r *Repo) Abort() error {
	if err := r.ot.AbortTransaction(); err != nil {
		return fmt.Errorf("abort the transaction: %w", plain(err))
	}
	return nil
}

// Import brings the verified object n from another repository into the
// transaction: by hard link where both are archives of one owner on one file
// system (ostree_repo_import_object_from_with_trust). Several goroutines may
// import at a time, as libostree's own pull does from its threads.
func (r *Repo) Import(from *Repo, n ostree.Name) error {
	sum := C.CString(n.Checksum.String())
	defer C.free(unsafe.Pointer(sum))
	var cerr *C.GError
	if C.ostree_repo_import_object_from_with_trust(r.c, from.c, C.OstreeObjectType(n.Type), sum, 1, nil, &cerr) == 0 {
		return failed("import "+n.String(), cerr)
	}
	return nil
}

// MarkComplete removes the mark that says that a commit lacks objects
// (state/<commit>.commitpartial), if there is one.
func (r *Repo) MarkComplete(commit ostree.Checksum) error {
	sum := C.CString(commit.String())
	defer C.free(unsafe.Pointer(sum))
	var cerr *C.GError
	if C.ostree_repo_mark_commit_partial(r.c, sum, 0, &cerr) == 0 {
		return failed("mark "+commit.String()+" complete", cerr)
	}
	return nil
}

// IndexDeltas writes the indexes of all static deltas anew, and sets
// core.indexed-deltas, by which clients know that there are such
// (ostree_repo_static_delta_reindex).
func (r *Repo) IndexDeltas() error {
	var cerr *C.GError
	if C.ostree_repo_static_delta_reindex(r.c, C.OSTREE_STATIC_DELTA_INDEX_FLAGS_NONE, nil, nil, &cerr) == 0 {
		return failed("index the static deltas", cerr)
	}
	return nil
}

// RegenerateSummary writes the summary anew and removes its signature.
func (r *Repo) RegenerateSummary() error {
	if err := r.ot.RegenerateSummary(); err != nil {
		return fmt.Errorf("write the summary: %w", plain(err))
	}
	return nil
}

// SummaryKeys lists the keys of the metadata in the bytes of a summary file
// (OSTREE_SUMMARY_GVARIANT_FORMAT). Bytes that are none have no keys or odd
// ones.
func SummaryKeys(b []byte) []string {
	data := C.CBytes(b)
	defer C.free(data)
	array := C.summary_keys(data, C.gsize(len(b)))
	defer C.g_strfreev(array)
	var keys []string
	for _, key := range unsafe.Slice(array, C.g_strv_length(array)) {
		keys = append(keys, C.GoString(key))
	}
	return keys
}

// failed turns a GError into an error and frees it.
func failed(what string, cerr *C.GError) error {
	defer C.g_clear_error(&cerr)
	message := C.GoString(cerr.message)
	switch {
	case strings.HasPrefix(message, "syncfs: "), strings.HasPrefix(message, "fsync objdirs: "):
		return fmt.Errorf("%s: %w: %s", what, durable.ErrNotSynced, message)
	case C.would_block(cerr) != 0:
		return fmt.Errorf("%s: %w", what, ErrLocked)
	case C.no_space(cerr) != 0, strings.Contains(message, "min-free-space"):
		return fmt.Errorf("%s: %s: %w", what, message, unix.ENOSPC)
	}
	return fmt.Errorf("%s: %s", what, message)
}

// plain takes the place in ostree-go's source out of its error.
func plain(err error) error {
	if _, words, found := strings.Cut(err.Error(), " - "); found {
		return errors.New(words)
	}
	return err
}
