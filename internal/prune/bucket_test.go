// SPDX-License-Identifier: AGPL-3.0-or-later

package prune

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/bucket"
	"github.com/lirios/ostree-upload/internal/mirror"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/store"
)

// stored is a repository in a bucket, a copy of that of a place.
type stored struct {
	*place
	bucket *bucket.Bucket
	mirror *mirror.Mirror
}

// store copies the repository into a bucket, and opens the mirror of a server.
func (p *place) store() *stored { return p.storeIn(store.FakeOptions{}) }

func (p *place) storeIn(o store.FakeOptions) *stored {
	p.t.Helper()
	store.SetCredentials(p.t)
	log := p.config().Log
	b, err := bucket.Open(p.t.Context(), bucket.Config{
		Bucket: store.FakeBucket, Prefix: "os", Endpoint: store.Fake(p.t, o), PathStyle: true, Log: log,
	})
	must.OK(p.t, err)
	must.OK(p.t, filepath.WalkDir(p.repo, func(path string, f fs.DirEntry, err error) error {
		if err != nil || !f.Type().IsRegular() {
			return err
		}
		body, err := os.ReadFile(path)
		must.OK(p.t, err)
		key, err := filepath.Rel(p.repo, path)
		must.OK(p.t, err)
		_, err = b.Put(p.t.Context(), key, body)
		return err
	}))
	path := mirror.Folder(p.t.TempDir())
	must.OK(p.t, mirror.ReadConfig(p.t.Context(), path, b, log))
	m, err := mirror.Open(p.t.Context(), path, b, log)
	must.OK(p.t, err)
	p.t.Cleanup(func() { must.OK(p.t, m.Close()) })
	return &stored{p, b, m}
}

// load makes the place's repository a copy of what the bucket has now.
func (s *stored) load() {
	s.t.Helper()
	s.repo = filepath.Join(s.t.TempDir(), "loaded")
	must.OSTree(s.t, "init", "--repo="+s.repo, "--mode=archive")
	must.OK(s.t, s.bucket.List(s.t.Context(), "", func(e bucket.Entry) error {
		from, _, err := s.bucket.Reader(s.t.Context(), e.Key)
		must.OK(s.t, err)
		defer from.Close()
		b, err := io.ReadAll(from)
		must.OK(s.t, err)
		path := filepath.Join(s.repo, e.Key)
		must.OK(s.t, os.MkdirAll(filepath.Dir(path), 0o755))
		return os.WriteFile(path, b, 0o644)
	}))
}

func (s *stored) config() Config {
	cfg := s.place.config()
	cfg.Mirror = s.mirror
	return cfg
}

// Of a repository in a bucket the same is removed as of one on the disk, and the dry run
// foretells it. The server knows then what is gone.
func TestBucket(t *testing.T) {
	p := newPlace(t, "archive")
	x := p.commit("os/x", 5)
	other := p.commit("other", 3)
	s := p.store()
	foretold, err := inBucket(t.Context(), s.config(), true, 0)
	must.OK(t, err)
	done, err := inBucket(t.Context(), s.config(), false, 0)
	must.OK(t, err)
	foretold.DryRun = false
	if a, b := fmt.Sprintf("%+v", foretold), fmt.Sprintf("%+v", done); a != b || done.Commits != 3 || done.Objects == 0 {
		t.Errorf("the dry run says %s\nbut it was      %s", a, b)
	}
	gone, unknown, err := s.mirror.Compare(t.Context())
	if len(gone)+unknown > 0 || err != nil {
		t.Errorf("the set of names has %v too much and lacks %d, %v", gone, unknown, err)
	}
	if err := s.mirror.CheckLease(t.Context()); err != nil {
		t.Errorf("the lease is left over: %v", err)
	}
	s.load()
	s.want(append(x[3:], other...)...)
}

// A repository that was copied into a bucket may have refs that no server here makes. They
// keep what they name, and one that cannot be read keeps everything.
func TestBucketWithPulledRefs(t *testing.T) {
	p := newPlace(t, "archive")
	x := p.commit("os/x", 3)
	mirrored, pulled := p.elsewhere("mirrors/org.example"), p.elsewhere("remotes/origin")
	s := p.store()
	_, err := s.bucket.Put(t.Context(), "refs/remotes/origin/os/bad", []byte("spoilt\n"))
	must.OK(t, err)
	if _, err := inBucket(t.Context(), s.config(), false, 0); err == nil || !strings.Contains(err.Error(), "ref remotes/origin/os/bad of repository s3://") {
		t.Errorf("a ref that cannot be read: %v", err)
	}
	must.OK(t, s.bucket.Delete(t.Context(), "refs/remotes/origin/os/bad", ""))
	_, err = inBucket(t.Context(), s.config(), false, 0)
	must.OK(t, err)
	s.load()
	s.want(slices.Concat(x[1:], mirrored, pulled)...)
}

// What is new stays for a day, by the store's clock: it may be of a publish that has not
// named it yet.
func TestBucketGrace(t *testing.T) {
	for name, ahead := range map[string]time.Duration{"behind": -48 * time.Hour, "ahead": 48 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t, "archive")
			all := p.commit("os/x", 3)
			clock := store.NewClock(time.Now().Add(ahead))
			s := p.storeIn(store.FakeOptions{Clock: clock})
			clock.Turn(grace - time.Second)
			r, err := Run(t.Context(), s.config(), true)
			must.OK(t, err)
			if r.Commits+r.Objects > 0 || r.New != 1 || r.Held != 0 { // of three, the rules keep two
				t.Errorf("removed %+v", r)
			}
			clock.Turn(time.Second)
			_, err = Run(t.Context(), s.config(), true)
			must.OK(t, err)
			s.load()
			s.want(all[1:]...)
		})
	}
}

// Nothing is removed while a publish is under way, and none begins meanwhile. What it has
// moved a ref to stays.
func TestBucketBesidePublish(t *testing.T) {
	p := newPlace(t, "archive")
	all := p.commit("os/x", 4)
	s := p.store()
	mark := mirror.MarksPrefix + "abc"
	_, err := s.bucket.Put(t.Context(), mark, []byte("{}"))
	must.OK(t, err)
	var r *wire.Pruned
	ended := make(chan error)
	go func() {
		var err error
		r, err = inBucket(context.Background(), s.config(), false, 0)
		ended <- err
	}()
	must.Wait(t, "the prune has its lease", func() bool {
		return errors.Is(s.mirror.CheckLease(t.Context()), mirror.ErrPruning)
	})
	_, err = s.bucket.Put(t.Context(), mirror.RefKey("os/old"), []byte(all[1].String()+"\n"))
	must.OK(t, err)
	must.OK(t, s.bucket.Delete(t.Context(), mark, ""))
	must.OK(t, <-ended)
	if r.Commits != 0 { // os/old keeps the first two, and os/x the last two
		t.Errorf("removed %+v", r)
	}
	s.load()
	s.want(all...)
}

// What other servers have brought is kept and removed as well, although the server that
// prunes knows nothing of it.
func TestBucketOfOthers(t *testing.T) {
	p := newPlace(t, "archive")
	x := p.commit("os/x", 5)
	s := p.store()
	var names []ostree.Name
	must.OK(t, s.mirror.List(t.Context(), func(n ostree.Name, _ bucket.Entry) error {
		names = append(names, n)
		return nil
	}))
	must.OK(t, s.mirror.Forget(names...))
	done, err := inBucket(t.Context(), s.config(), false, 0)
	must.OK(t, err)
	if done.Commits != 3 || done.Objects == 0 {
		t.Errorf("removed %+v", done)
	}
	s.load()
	s.want(x[3:]...)
}
