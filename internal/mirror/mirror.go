// SPDX-License-Identifier: AGPL-3.0-or-later

// Package mirror is what one server knows of a repository in a bucket.
//
//   - A folder that looks like a repository to those who read configuration and refs: it
//     has both as they were read last.
//   - A set of the names of the objects that the bucket has. It is made by listing the
//     bucket once, and then follows what this server writes and comes across. It may lack
//     what others wrote, and may have what somebody removed: whoever moves a ref asks the
//     bucket again (Seek).
//   - The metadata objects that were read or written last, up to a number of bytes.
//
// Nothing here is needed to find out what a publish did: all of it can be made again from
// the bucket. A Mirror may be used by many goroutines.
package mirror

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/lirios/ostree-upload/internal/bucket"
	"github.com/lirios/ostree-upload/internal/durable"
	"github.com/lirios/ostree-upload/internal/hint"
	"github.com/lirios/ostree-upload/internal/ostree"
)

// Requests at a time: of objects that are written, looked for or listed.
const Parallel = 48

// Mirror is a repository in a bucket, as this server knows it.
type Mirror struct {
	Bucket *bucket.Bucket
	path   string
	log    *slog.Logger
	names  *names
	cache  *cache
	few    int // objects that are listed by one request after the other
	learns *learner

	refs   refs
	asking sync.Mutex // guards silent
	silent time.Time  // until when readers do not ask the bucket, which did not answer
}

// maxConfig is how many bytes a repository's configuration may have.
const maxConfig = 1 << 20

// emptyConfig is the configuration of a new repository, as ostree init writes it.
const emptyConfig = "[core]\nrepo_version=1\nmode=archive-z2\n"

// Init makes a repository in a bucket, with a summary, unless there is one. Before it has
// its configuration there is none.
func Init(ctx context.Context, b *bucket.Bucket) error {
	if _, err := b.Head(ctx, "config"); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	summary, err := ostree.EmptySummary(time.Now())
	if err != nil {
		return err
	}
	for _, file := range []struct {
		key  string
		body []byte
	}{{"summary", summary}, {"config", []byte(emptyConfig)}} {
		// Another server may make it at the same time.
		if _, err := b.Swap(ctx, file.key, file.body, ""); err != nil && !errors.Is(err, bucket.ErrChanged) {
			return err
		}
	}
	return nil
}

// Folder is where a server with this state folder has its mirror.
func Folder(state string) string { return filepath.Join(state, "mirror") }

// ReadConfig writes the bucket's configuration into the folder of the mirror, which is
// made. The error wraps ostree.ErrNoRepo if there is none. If the bucket does not answer,
// the configuration of the start before counts.
func ReadConfig(ctx context.Context, path string, b *bucket.Bucket, log *slog.Logger) error {
	for _, folder := range []string{"objects", "refs/heads", "refs/mirrors", "refs/remotes", "state", "tmp", "extensions"} {
		if err := os.MkdirAll(filepath.Join(path, folder), 0o700); err != nil {
			return err
		}
	}
	config, _, err := b.Get(ctx, "config", maxConfig)
	there, readErr := os.ReadFile(filepath.Join(path, "config"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return hint.Add(fmt.Errorf("%w at %s: it has no config", ostree.ErrNoRepo, b), "correct repo in the configuration, or create one with --init where nothing is")
	case bucket.Temporary(err) && readErr == nil:
		log.Warn("the store cannot be asked for the repository's configuration, so that of the last start counts", "repo", b.String(), "err", err)
		return nil
	case err != nil:
		return err
	case readErr != nil || !bytes.Equal(there, config):
		if err := durable.Write(filepath.Join(path, "config"), config); err != nil {
			return err
		}
	}
	if _, err := ostree.OpenBeyond(path, b.String(), nil); err != nil {
		return hint.Add(fmt.Errorf("the object config of %s cannot be used: %w", b, err), "put that of an archive repository there, or correct repo in the configuration")
	}
	return nil
}

// Open opens the mirror in a folder that has its configuration. The first time it lists
// all objects of the bucket. The caller closes it.
func Open(ctx context.Context, path string, b *bucket.Bucket, log *slog.Logger) (*Mirror, error) {
	m := &Mirror{Bucket: b, path: path, log: log, few: 20_000}
	if _, err := m.Strict(); err != nil {
		return nil, err
	}
	var err error
	if m.cache, err = openCache(filepath.Join(path, "objects"), mostCached); err != nil {
		return nil, err
	}
	if m.names, err = openNames(filepath.Join(path, "names.db"), b.String(), log); err != nil {
		return nil, err
	}
	m.learns = newLearner(m)
	if err := m.begin(ctx); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// begin lists the bucket, unless that was done before.
func (m *Mirror) begin(ctx context.Context) error {
	if m.names.listed() {
		return nil
	}
	start := time.Now()
	m.log.Info("listing the objects of the bucket, which is done once", "repo", m.Bucket.String())
	objects, err := m.relist(ctx)
	if err == nil {
		m.log.Info("listed the objects of the bucket", "objects", objects, "took", time.Since(start))
	}
	return err
}

// Close ends the use of the mirror.
func (m *Mirror) Close() error {
	m.learns.close()
	return m.names.close()
}

// Path is the folder of the mirror.
func (m *Mirror) Path() string { return m.path }

// Strict opens the repository for a publish: what it reads of refs and detached metadata
// is what the bucket has at that moment, or an error.
func (m *Mirror) Strict() (*ostree.Repo, error) { return m.beyond(strict{m}) }

// Asking opens it for somebody who lists the bucket or asks it for all files that he relies
// on, and relies on what other servers have written: each file counts as there. Metadata
// that the set lacks is asked for.
func (m *Mirror) Asking() (*ostree.Repo, error) {
	return m.beyond(asking{strict{m}})
}

// Certain opens it for somebody who reports what is missing, while other servers write: what
// the set lacks is asked for.
func (m *Mirror) Certain() (*ostree.Repo, error) { return m.beyond(certain{asking{strict{m}}}) }

// Lenient opens it for those to whom it is good enough to know what the bucket had
// when it last answered, while it does not.
func (m *Mirror) Lenient() (*ostree.Repo, error) { return m.beyond(lenient{m}) }

func (m *Mirror) beyond(b ostree.Beyond) (*ostree.Repo, error) {
	return ostree.OpenBeyond(m.path, m.Bucket.String(), b)
}
