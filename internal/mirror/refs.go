// SPDX-License-Identifier: AGPL-3.0-or-later

package mirror

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/lirios/ostree-upload/internal/bucket"
	"github.com/lirios/ostree-upload/internal/ostree"
)

// RefKey is the key of a ref.
func RefKey(ref string) string { return headsPrefix + ref }

const headsPrefix = "refs/heads/"

// maxRef is how many bytes of a ref's object are read.
const maxRef = 256

// refs are those of the folder, which one goroutine brings up to date at a time.
type refs struct {
	mu    sync.Mutex
	etags map[string]string // of the refs that the folder has
	tidy  bool              // those of an earlier process are gone that the bucket does not have
	began time.Time         // when the last reading of all refs began
}

// Refresh has the folder's refs be those of the bucket.
func (s strict) Refresh(names ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), readTime)
	defer cancel()
	return s.m.refresh(ctx, names)
}

// Refresh does so as well, if the bucket answers soon.
func (l lenient) Refresh(names ...string) error {
	if !l.m.answers() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err := l.m.refresh(ctx, names)
	if err == nil || !bucket.Temporary(err) {
		return err
	}
	l.m.log.Warn("the bucket does not answer, so refs are told as they were before", "err", err)
	l.m.asking.Lock()
	defer l.m.asking.Unlock()
	l.m.silent = time.Now().Add(silence)
	return nil
}

// answers tells whether the bucket may answer a reader.
func (m *Mirror) answers() bool {
	m.asking.Lock()
	defer m.asking.Unlock()
	return time.Now().After(m.silent)
}

func (m *Mirror) refresh(ctx context.Context, names []string) error {
	called := time.Now()
	m.refs.mu.Lock()
	defer m.refs.mu.Unlock()
	if m.refs.began.After(called) {
		return nil // all were read for somebody else, meanwhile
	}
	if len(names) == 0 {
		return m.refreshAll(ctx)
	}
	for _, name := range names {
		if err := m.refreshOne(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// refreshOne reads one ref.
func (m *Mirror) refreshOne(ctx context.Context, name string) error {
	if ostree.ValidateRef(name) != nil {
		return nil // there is no such ref
	}
	text, at, err := m.readRef(ctx, name)
	if err != nil {
		return err
	}
	err = m.keepRef(name, text, at.ETag)
	if errors.Is(err, errInTheWay) {
		return m.refreshAll(ctx)
	}
	return err
}

// Ref reads a ref from the bucket: its commit and its object. If there is no such ref, the
// commit and the ETag are "".
func (m *Mirror) Ref(ctx context.Context, name string) (commit string, at bucket.Entry, err error) {
	text, at, err := m.readRef(ctx, name)
	if err != nil || at.ETag == "" {
		return "", at, err
	}
	c, err := ostree.ParseRef(name, m.Bucket.String(), []byte(text))
	if err != nil {
		return "", at, err
	}
	return c.String(), at, nil
}

// readRef reads what the object of a ref holds, which may be damaged. Its ETag is "" if
// there is no such ref.
func (m *Mirror) readRef(ctx context.Context, name string) (text string, at bucket.Entry, err error) {
	return m.readRefAt(ctx, RefKey(name), name)
}

func (m *Mirror) readRefAt(ctx context.Context, key, name string) (text string, at bucket.Entry, err error) {
	b, at, err := m.Bucket.Read(ctx, key, maxRef)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", at, nil
	case err != nil && !errors.Is(err, bucket.ErrLarge):
		return "", at, fmt.Errorf("ref %s: %w", name, err)
	}
	return string(b), at, nil
}

// refreshAll lists the refs and reads those that have changed.
func (m *Mirror) refreshAll(ctx context.Context) error {
	began := time.Now()
	now := map[string]string{}
	err := m.Bucket.List(ctx, headsPrefix, func(e bucket.Entry) error {
		if name := strings.TrimPrefix(e.Key, headsPrefix); ostree.ValidateRef(name) == nil {
			now[name] = e.ETag
		}
		return nil
	})
	if err != nil {
		return err
	}
	if !m.refs.tidy {
		if err := m.forgetRefs(now); err != nil {
			return err
		}
	}
	for name := range m.refs.etags {
		if _, is := now[name]; !is {
			if err := m.keepRef(name, "", ""); err != nil {
				return err
			}
		}
	}
	if err := m.readRefs(ctx, now); err != nil {
		return err
	}
	m.refs.began, m.refs.tidy = began, true
	return nil
}

// forgetRefs removes the refs that the folder has since an earlier process and the bucket
// does not have.
func (m *Mirror) forgetRefs(now map[string]string) error {
	folder, err := ostree.OpenRepo(m.path)
	if err != nil {
		return err
	}
	names, err := folder.RefNames()
	if err != nil {
		return err
	}
	for _, name := range names {
		if _, is := now[name]; !is {
			if err := m.keepRef(name, "", ""); err != nil {
				return err
			}
		}
	}
	return nil
}

// readRefs reads the refs whose ETag is another one than the folder has.
func (m *Mirror) readRefs(ctx context.Context, now map[string]string) error {
	type read struct{ name, text, etag string }
	var mu sync.Mutex
	var changed []read
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(Parallel)
	for name, etag := range now {
		if m.refs.etags[name] == etag {
			continue
		}
		g.Go(func() error {
			text, at, err := m.readRef(ctx, name)
			mu.Lock()
			defer mu.Unlock()
			changed = append(changed, read{name, text, at.ETag})
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for _, c := range changed {
		err := m.keepRef(c.name, c.text, c.etag)
		if errors.Is(err, errInTheWay) {
			m.log.Warn("one of two refs has the name of the other's folder, and is not told", "ref", c.name)
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// errInTheWay says that a ref cannot be in the folder beside another: one has the name of
// the other's folder. That can be if two receivers made them at the same time, or if the
// other one is gone and the folder has it still.
var errInTheWay = errors.New("another ref is in the way")

// keepRef writes a ref into the folder as the bucket has it, or takes it away if etag is
// "". A damaged one is written, too, so that whoever reads it finds out.
func (m *Mirror) keepRef(name, text, etag string) error {
	path := filepath.Join(m.path, "refs", "heads", filepath.FromSlash(name))
	if m.refs.etags == nil {
		m.refs.etags = map[string]string{}
	}
	if etag == "" {
		delete(m.refs.etags, name)
		return m.dropRef(path)
	}
	if m.refs.etags[name] == etag {
		return nil
	}
	err := os.MkdirAll(filepath.Dir(path), 0o700)
	if err == nil {
		temp := filepath.Join(m.path, "tmp", "ref")
		if err = os.WriteFile(temp, []byte(text), 0o600); err == nil {
			err = os.Rename(temp, path)
			if errors.Is(err, fs.ErrExist) || errors.Is(err, unix.EISDIR) {
				if removeEmpty(path) == nil {
					err = os.Rename(temp, path)
				}
			}
		}
	}
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.EISDIR) || errors.Is(err, fs.ErrExist) {
		return errInTheWay
	}
	if err != nil {
		return fmt.Errorf("keep ref %s of repository %s: %w", name, m.Bucket, err)
	}
	if _, err := ostree.ParseRef(name, "", []byte(text)); err != nil {
		etag = "" // what the store has damaged it mends under the same ETag
	}
	m.refs.etags[name] = etag
	m.learns.ask(text)
	return nil
}

// removeEmpty removes a folder in which there are but folders, as a kill leaves it.
func removeEmpty(folder string) error {
	inner, err := os.ReadDir(folder)
	if err != nil {
		return err
	}
	for _, f := range inner {
		if !f.IsDir() {
			return fs.ErrExist
		}
		if err := removeEmpty(filepath.Join(folder, f.Name())); err != nil {
			return err
		}
	}
	return os.Remove(folder)
}

// dropRef removes a ref and the folders that are empty without it.
func (m *Mirror) dropRef(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) {
		if info, statErr := os.Lstat(path); statErr != nil || !info.IsDir() {
			return err
		}
		return nil // the folder of other refs
	}
	heads := filepath.Join(m.path, "refs", "heads")
	for folder := filepath.Dir(path); folder != heads; folder = filepath.Dir(folder) {
		if os.Remove(folder) != nil {
			break // mostly it is not empty; one that stays does no harm
		}
	}
	return nil
}
