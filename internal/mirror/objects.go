// SPDX-License-Identifier: AGPL-3.0-or-later

package mirror

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/lirios/ostree-upload/internal/bucket"
	"github.com/lirios/ostree-upload/internal/ostree"
)

// Key is the key of an object.
func Key(n ostree.Name) string { return "objects/" + n.Path() }

// nameOfKey is the object of a key. What else lies beside the objects has none.
func nameOfKey(key string) (ostree.Name, bool) {
	file, is := strings.CutPrefix(key, "objects/")
	n, err := ostree.ParseName(strings.Replace(file, "/", "", 1))
	return n, is && err == nil && n.Path() == file
}

// readTime bounds how long one reads that waits for the bucket: longer than a metadata
// object takes.
const readTime = 5 * time.Minute

// silence is for how long readers do not ask a bucket again that did not answer one of
// them, and patience how long one waits for its answer.
const (
	silence  = 5 * time.Second
	patience = 10 * time.Second
)

// strict reads what the bucket has now.
type strict struct{ m *Mirror }

// asking reads that, too, and does not take for missing what others may have written.
type asking struct{ strict }

// Has reports whether there may be such an object.
func (a asking) Has(n ostree.Name) (bool, error) {
	if n.Type == ostree.File {
		return true, nil
	}
	return a.m.Has(n)
}

// certain is asking, for somebody who reports what is missing.
type certain struct{ asking }

// Has reports whether there is such an object.
func (c certain) Has(n ostree.Name) (bool, error) {
	ctx, cancel := context.WithTimeout(context.Background(), readTime)
	defer cancel()
	return c.m.ask(ctx, n)
}

// lenient reads what it had, while it does not answer.
type lenient struct{ m *Mirror }

func (s strict) Has(n ostree.Name) (bool, error)  { return s.m.Has(n) }
func (l lenient) Has(n ostree.Name) (bool, error) { return l.m.Has(n) }

// Has reports whether the bucket has an object, as far as this server knows.
func (m *Mirror) Has(n ostree.Name) (bool, error) {
	_, is, err := m.names.seen(n)
	return is, err
}

// ask is Has, but for what the set lacks it asks the bucket.
func (m *Mirror) ask(ctx context.Context, n ostree.Name) (bool, error) {
	if known, err := m.Has(n); known || err != nil {
		return known, err
	}
	e, err := m.Bucket.Head(ctx, Key(n))
	if errors.Is(err, fs.ErrNotExist) || err == nil && torn(n, e) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, m.names.add(n)
}

func (s strict) Metadata(n ostree.Name) ([]byte, error) {
	if n.Type == ostree.CommitMeta {
		return s.m.read(context.Background(), n)
	}
	return s.m.metadata(n)
}

// Metadata asks the bucket for what the set lacks.
func (a asking) Metadata(n ostree.Name) ([]byte, error) {
	if n.Type == ostree.CommitMeta {
		return a.m.read(context.Background(), n)
	}
	known, err := a.m.Has(n)
	if err != nil {
		return nil, err
	}
	return a.m.cached(n, known)
}

func (l lenient) Metadata(n ostree.Name) ([]byte, error) { return l.m.metadata(n) }

// metadata reads a metadata object from the disk or else from the bucket. Commits are
// asked for there although they are not in the set: others publish them, too.
func (m *Mirror) metadata(n ostree.Name) ([]byte, error) {
	known, err := m.Has(n)
	if err != nil {
		return nil, err
	}
	if !known && n.Type != ostree.CommitObject {
		return nil, absent(n)
	}
	return m.cached(n, known)
}

// cached reads a metadata object from the disk if it is known, or else from the bucket.
func (m *Mirror) cached(n ostree.Name, known bool) ([]byte, error) {
	if known {
		if b := m.cache.get(n); b != nil {
			return b, nil
		}
	}
	return m.read(context.Background(), n)
}

func absent(n ostree.Name) error {
	return fmt.Errorf("object %s is not in the bucket: %w", n, fs.ErrNotExist)
}

// read reads a metadata object from the bucket, and notes whether it is there.
func (m *Mirror) read(ctx context.Context, n ostree.Name) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, readTime)
	defer cancel()
	b, _, err := m.Bucket.Get(ctx, Key(n), ostree.MaxMetadata)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errors.Join(err, m.Forget(n))
	}
	if err != nil {
		return nil, err
	}
	if err := m.cache.put(n, b); err != nil {
		m.log.Warn("cannot keep a metadata object on the disk, so it is read from the bucket again", "object", n.String(), "err", err)
	}
	if known, err := m.Has(n); known || err != nil {
		return b, err
	}
	return b, m.names.add(n)
}

// Open reads what the bucket has, for somebody who verifies that: a copy on the disk, which
// may be better, does not stand for it from then on.
func (s strict) Open(ctx context.Context, n ostree.Name) (io.ReadCloser, int64, error) {
	if n.Type != ostree.File {
		if err := s.m.cache.drop(n); err != nil {
			return nil, 0, err
		}
	}
	from, size, err := s.m.open(ctx, n)
	if errors.Is(err, fs.ErrNotExist) {
		err = errors.Join(err, s.m.Forget(n))
	}
	return from, size, err
}

func (l lenient) Open(ctx context.Context, n ostree.Name) (io.ReadCloser, int64, error) {
	return l.m.open(ctx, n)
}

// open reads an object from the bucket. One that the store cannot give, while it gives
// others, is damaged.
func (m *Mirror) open(ctx context.Context, n ostree.Name) (io.ReadCloser, int64, error) {
	from, size, err := m.Bucket.Reader(ctx, Key(n))
	if bucket.Unreadable(err) {
		if _, failed := m.Bucket.Head(ctx, "config"); failed == nil {
			err = &ostree.BadObjectError{Object: n, Reason: "the store cannot give it: " + err.Error()}
		}
	}
	return from, size, err
}

// Forget takes objects out of the set.
func (m *Mirror) Forget(list ...ostree.Name) error {
	for _, n := range list {
		if err := m.cache.drop(n); err != nil {
			return err
		}
	}
	return m.names.remove(list...)
}

// Learn adds objects to the set that are in the bucket.
func (m *Mirror) Learn(list ...ostree.Name) error { return m.names.add(list...) }

// Write writes an object from a file in archive form. If there is one already, it stays if
// it has as many bytes, and else is overwritten: an object that is empty or was cut off by
// others is no better than none. The file is not changed from then on.
func (m *Mirror) Write(ctx context.Context, n ostree.Name, path string) error {
	return m.write(ctx, n, path, m.create)
}

// Replace writes an object over a damaged one, which is there until then.
func (m *Mirror) Replace(ctx context.Context, n ostree.Name, path string) error {
	if err := m.cache.drop(n); err != nil {
		return err
	}
	return m.write(ctx, n, path, m.Bucket.Overwrite)
}

// create writes an object that no other server has written whole.
func (m *Mirror) create(ctx context.Context, key string, from bucket.Source) error {
	err := m.Bucket.Create(ctx, key, from)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	there, err := m.Bucket.Head(ctx, key)
	if err == nil && there.Size == from.Size || err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	m.log.Warn("an object of the bucket is not as long as it should be, and is overwritten", "object", key, "bytes", there.Size, "of", from.Size)
	return m.Bucket.Overwrite(ctx, key, from)
}

// write writes an object from a file by do.
func (m *Mirror) write(ctx context.Context, n ostree.Name, path string, do func(context.Context, string, bucket.Source) error) error {
	f, err := os.Open(filepath.Clean(path))
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // it was only read
	info, err := f.Stat()
	if err != nil {
		return err
	}
	from := bucket.Source{Content: f, Size: info.Size()}
	if n.Type != ostree.File {
		from.SHA256 = n.Checksum[:]
	}
	if err := do(ctx, Key(n), from); err != nil {
		return err
	}
	if n.Type == ostree.File {
		return nil
	}
	if err := m.cache.link(n, path); err != nil {
		m.log.Warn("cannot keep a metadata object on the disk, so it will be read from the bucket", "object", n.String(), "err", err)
	}
	return nil
}
