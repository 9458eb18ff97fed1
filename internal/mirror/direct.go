// SPDX-License-Identifier: AGPL-3.0-or-later

package mirror

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"sync"

	"github.com/lirios/ostree-upload/internal/bucket"
	"github.com/lirios/ostree-upload/internal/ostree"
)

// Direct is a repository in a bucket for somebody who verifies all of it, beside servers
// and other programs: what it reads comes from the bucket each time. It has a folder of its
// own, in which nothing is worth keeping: refs, and the names of the objects that List has
// come across.
type Direct struct {
	strict
	ctx   context.Context // of all requests that are not given another one
	large sync.Mutex      // held while a large metadata object is in memory
}

// largeMetadata is how many bytes of metadata may be read beside others.
const largeMetadata = 1 << 20

// OpenDirect opens a repository for as long as ctx lasts. The caller closes it.
func OpenDirect(ctx context.Context, path string, b *bucket.Bucket, log *slog.Logger) (*Direct, error) {
	if err := ReadConfig(ctx, path, b, log); err != nil {
		return nil, err
	}
	names, err := openNames(filepath.Join(path, "names.db"), b.String(), log)
	if err != nil {
		return nil, err
	}
	names.db.NoSync = true // it ends with this process
	m := &Mirror{Bucket: b, path: path, log: log, names: names}
	return &Direct{strict: strict{m}, ctx: ctx}, nil
}

// Close ends the use of the folder.
func (d *Direct) Close() error { return d.m.names.close() }

// Repo is the repository.
func (d *Direct) Repo() (*ostree.Repo, error) { return d.m.beyond(d) }

// Requests is how many objects one may read at a time.
func (d *Direct) Requests() int { return Parallel }

// List visits the objects of a folder of objects/; size tells how many bytes one has.
func (d *Direct) List(ctx context.Context, folder string, visit func(n ostree.Name, size func() int64) error) error {
	found := batch{add: d.m.names.add}
	err := d.m.Bucket.List(ctx, "objects/"+folder+"/", func(e bucket.Entry) error {
		n, is := nameOfKey(e.Key)
		if !is {
			return nil
		}
		if !torn(n, e) {
			if err := found.note(n); err != nil {
				return err
			}
		}
		return visit(n, func() int64 { return e.Size })
	})
	return errors.Join(err, found.flush())
}

// Rewrite says how a damaged ref is written again.
func (d *Direct) Rewrite(ref string) string { return d.m.Rewrite(ref, "COMMIT") }

// Rewrite says how a ref is written as somebody who has the credentials of the bucket.
func (m *Mirror) Rewrite(ref, commit string) string {
	return fmt.Sprintf("echo %s | %s", commit, m.Bucket.WriteCommand(RefKey(ref)))
}

// Has asks the bucket for what was not listed: it may have come since then.
func (d *Direct) Has(n ostree.Name) (bool, error) { return d.m.ask(d.ctx, n) }

// Metadata reads a metadata object, one after the other if they are large.
func (d *Direct) Metadata(n ostree.Name) ([]byte, error) {
	b, _, err := d.m.Bucket.Get(d.ctx, Key(n), largeMetadata)
	if errors.Is(err, bucket.ErrLarge) {
		d.large.Lock()
		defer d.large.Unlock()
		b, _, err = d.m.Bucket.Get(d.ctx, Key(n), ostree.MaxMetadata)
	}
	return b, err
}

// Open reads an object. Whoever reads metadata has all of it in memory, so that others wait
// until a large one is closed.
func (d *Direct) Open(ctx context.Context, n ostree.Name) (io.ReadCloser, int64, error) {
	from, size, err := d.m.open(ctx, n)
	if err != nil || n.Type == ostree.File || size <= largeMetadata {
		return from, size, err
	}
	d.large.Lock()
	return &alone{from, d.large.Unlock}, size, nil
}

// alone is what is read of a large object.
type alone struct {
	io.ReadCloser
	leave func()
}

// Close lets the next one begin.
func (a *alone) Close() error {
	a.leave()
	return a.ReadCloser.Close()
}
