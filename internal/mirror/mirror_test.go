// SPDX-License-Identifier: AGPL-3.0-or-later

package mirror_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/bucket"
	"github.com/lirios/ostree-upload/internal/hint"
	"github.com/lirios/ostree-upload/internal/mirror"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/objects"
	ts "github.com/lirios/ostree-upload/test/server"
	"github.com/lirios/ostree-upload/test/store"
)

// place is a repository in a bucket, which is reached through a proxy.
type place struct {
	t      *testing.T
	proxy  *store.Proxy
	bucket *bucket.Bucket
}

// newPlace makes a repository. Its prefix has what a URL, XML or a path may mean otherwise.
func newPlace(t *testing.T) *place {
	t.Helper()
	return newPlaceIn(t, store.FakeOptions{PageSize: "7"})
}

func newPlaceIn(t *testing.T, o store.FakeOptions) *place {
	t.Helper()
	p := &place{t: t, proxy: store.NewProxy(t, store.Fake(t, o))}
	p.atStore(p.proxy.URL, "a b/ü+%25&=<é>'(1)")
	return p
}

// atStore makes the repository in a store.
func (p *place) atStore(url, prefix string) {
	p.t.Helper()
	store.SetCredentials(p.t)
	var err error
	p.bucket, err = bucket.Open(p.t.Context(), bucket.Config{
		Bucket: store.FakeBucket, Prefix: prefix, Endpoint: url, PathStyle: true,
		Log: ts.Logger(p.t), Tries: 2, Backoff: time.Millisecond,
	})
	must.OK(p.t, err)
	must.OK(p.t, mirror.Init(p.t.Context(), p.bucket))
}

// open opens the mirror of a server with this state.
func (p *place) open(state string) *mirror.Mirror {
	p.t.Helper()
	path, log := mirror.Folder(state), ts.Logger(p.t)
	must.OK(p.t, mirror.ReadConfig(p.t.Context(), path, p.bucket, log))
	m, err := mirror.Open(p.t.Context(), path, p.bucket, log)
	must.OK(p.t, err)
	p.t.Cleanup(func() { must.OK(p.t, m.Close()) })
	return m
}

// put writes an object as another server does.
func (p *place) put(o objects.Object) ostree.Name {
	p.t.Helper()
	n := nameOf(p.t, o)
	_, err := p.bucket.Put(p.t.Context(), mirror.Key(n), o.Bytes)
	must.OK(p.t, err)
	return n
}

func nameOf(t *testing.T, o objects.Object) ostree.Name {
	t.Helper()
	n, err := ostree.ParseName(o.Name())
	must.OK(t, err)
	return n
}

// trees are different objects of about a kilobyte.
func trees(n int) (list []objects.Object) {
	names := []string{}
	for i := range 24 {
		names = append(names, string(rune('a'+i)))
	}
	for i := range n {
		list = append(list, objects.Metadata("dirtree", objects.Files(append(names, "z"+string(rune('a'+i)))...)))
	}
	return list
}

// read reads metadata through the mirror, and tells how often the bucket was asked for it.
func (p *place) read(m *mirror.Mirror, o objects.Object) (requests int) {
	p.t.Helper()
	repo, err := m.Strict()
	must.OK(p.t, err)
	p.proxy.Play(nil)
	got, err := repo.Metadata(nameOf(p.t, o))
	must.OK(p.t, err)
	if string(got) != string(o.Bytes) {
		p.t.Errorf("%s is %q", o.Name(), got)
	}
	return p.proxy.Counts()["GetObject"]
}

// cached is how many bytes the mirror's files of objects have.
func cached(t *testing.T, m *mirror.Mirror) (bytes int64) {
	t.Helper()
	must.OK(t, filepath.WalkDir(filepath.Join(m.Path(), "objects"), func(_ string, f fs.DirEntry, err error) error {
		if err != nil || f.IsDir() {
			return err
		}
		info, err := f.Info()
		bytes += info.Size()
		return err
	}))
	return bytes
}

func has(t *testing.T, m *mirror.Mirror, n ostree.Name) bool {
	t.Helper()
	is, err := m.Has(n)
	must.OK(t, err)
	return is
}

// What a mirror has on the disk may be removed, wholly or in part, while no server runs.
func TestFolderLost(t *testing.T) {
	p := newPlace(t)
	tree := trees(1)[0]
	p.put(tree)
	state := t.TempDir()
	must.OK(t, p.open(state).Close())
	for _, gone := range []string{"", "objects", "refs", "tmp", "config", "names.db"} {
		must.OK(t, os.RemoveAll(filepath.Join(mirror.Folder(state), gone)))
		m := p.open(state)
		if uncached := gone == "" || gone == "objects"; (p.read(m, tree) == 1) != uncached {
			t.Errorf("without %q the tree was cached or not", gone)
		}
		p.setRef("x", nameOf(t, tree).Checksum.String())
		p.wantRefs(m, "x")
		must.OK(t, m.Close())
	}
}

// A place without a repository is not taken for one.
func TestNoRepo(t *testing.T) {
	p := newPlace(t)
	must.OK(t, p.bucket.Delete(t.Context(), "config", ""))
	err := mirror.ReadConfig(t.Context(), mirror.Folder(t.TempDir()), p.bucket, ts.Logger(t))
	if !errors.Is(err, ostree.ErrNoRepo) {
		t.Errorf("it says %v", err)
	}
}

// What cannot be a repository in a bucket is refused by its name there, each time.
func TestUnfitConfig(t *testing.T) {
	p := newPlace(t)
	folder := mirror.Folder(t.TempDir())
	for config, words := range map[string]string{
		"": "only an archive", "[core]\nrepo_version=1\nmode=bare-user\n": "only an archive", "\x00\x01": "config line 1",
	} {
		_, err := p.bucket.Put(t.Context(), "config", []byte(config))
		must.OK(t, err)
		for range 2 {
			err := mirror.ReadConfig(t.Context(), folder, p.bucket, ts.Logger(t))
			if err == nil || !strings.Contains(err.Error(), p.bucket.String()) || !strings.Contains(err.Error(), words) || hint.Of(err) == "" {
				t.Errorf("of %q it says %v, hint %q", config, err, hint.Of(err))
			}
		}
	}
}
