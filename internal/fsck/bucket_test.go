// SPDX-License-Identifier: AGPL-3.0-or-later

package fsck

import (
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/bucket"
	"github.com/lirios/ostree-upload/internal/hint"
	"github.com/lirios/ostree-upload/internal/mirror"
	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/store"
)

// A bucketRepo is a repository in a bucket, which is reached through a proxy.
type bucketRepo struct {
	t      *testing.T
	url    string
	proxy  *store.Proxy
	bucket *bucket.Bucket
}

const prefix = "os/"

// putInto puts a repository into a bucket.
func putInto(t *testing.T, repo string) *bucketRepo {
	t.Helper()
	store.SetCredentials(t)
	b := &bucketRepo{t: t, url: store.Fake(t, store.FakeOptions{PageSize: "3"})}
	b.put(repo)
	b.proxy = store.NewProxy(t, b.url)
	var err error
	b.bucket, err = bucket.Open(t.Context(), bucket.Config{
		Bucket: store.FakeBucket, Prefix: prefix, Endpoint: b.proxy.URL, PathStyle: true,
		Tries: 2, Backoff: time.Millisecond,
	})
	must.OK(t, err)
	return b
}

// put writes all files of a repository.
func (b *bucketRepo) put(repo string) { store.Fill(b.t, b.url, store.FakeBucket, prefix, repo) }

// check is a check that begins now.
func (b *bucketRepo) check() *Check {
	b.t.Helper()
	direct, err := mirror.OpenDirect(b.t.Context(), b.t.TempDir(), b.bucket, slog.New(slog.DiscardHandler))
	must.OK(b.t, err)
	b.t.Cleanup(func() { must.OK(b.t, direct.Close()) })
	repo, err := direct.Repo()
	must.OK(b.t, err)
	return New(repo, direct)
}

// fails has the requests for an object fail from now on.
func (b *bucketRepo) fails(object string, with *store.Fault) {
	b.proxy.Play(func(r store.Request) *store.Fault {
		if r.Kind == "GetObject" && strings.HasSuffix(r.Key, object) {
			return with
		}
		return nil
	})
}

// An object that the store cannot give, while it gives others, is damaged. If it gives
// none, nobody can tell.
func TestStoreFails(t *testing.T) {
	path := made(t, inBucket)
	tree := t.TempDir()
	large := make([]byte, 1<<16) // so that an answer is torn in its body
	_, _ = rand.NewChaCha8([32]byte{1}).Read(large)
	must.OK(t, os.WriteFile(filepath.Join(tree, "large"), large, 0o644))
	must.OSTree(t, "commit", "--repo="+path, "--branch=os/z", "--canonical-permissions", "--tree=dir="+tree)
	b := putInto(t, path)
	victim := file(t, path, "os/z", "/large")
	object := victim[strings.Index(victim, "objects/"):]
	for fault, says := range map[*store.Fault]string{store.InternalError: "the store cannot give it: ", store.Torn: "its bytes break off whenever it is read"} {
		c := b.check()
		b.fails(object, fault)
		findings, _, err := c.Run(t.Context())
		if err != nil || len(findings) != 1 || !strings.Contains(findings[0], "/large: object ") || !strings.Contains(findings[0], says) {
			t.Errorf("%s: findings %q, %v", fault, findings, err)
		}
	}
	c := b.check()
	torn := false
	b.proxy.Play(func(r store.Request) *store.Fault {
		if r.Kind != "GetObject" || !strings.HasSuffix(r.Key, object) || torn {
			return nil
		}
		torn = true
		return store.Torn
	})
	if findings, notes, err := c.Run(t.Context()); err != nil || len(findings)+len(notes) > 0 || !torn {
		t.Errorf("a body broke off once: findings %q, notes %q, %v", findings, notes, err)
	}
	c = b.check()
	b.proxy.Down()
	if findings, _, err := c.Run(t.Context()); !bucket.Temporary(err) || hint.Of(err) == "" {
		t.Errorf("a store that is down: findings %q, %v, hint %q", findings, err, hint.Of(err))
	}
}

// What is pushed while a check runs is no finding, and does not hide what is wrong with the
// commits before it.
func TestPushedMeanwhile(t *testing.T) {
	path := made(t, inBucket)
	rot(t, file(t, path, "os/x", "/etc/state"))
	b := putInto(t, path)
	c := b.check()
	must.OK(t, c.verifyAll(t.Context()))
	tree := t.TempDir()
	must.OK(t, os.WriteFile(filepath.Join(tree, "new"), []byte("pushed meanwhile"), 0o644))
	must.OSTree(t, "commit", "--repo="+path, "--branch=os/x", "--canonical-permissions", "--tree=dir="+tree)
	b.put(path)
	must.OK(t, c.refs(t.Context()))
	if len(c.faults) != 1 {
		t.Errorf("faults %v", c.faults)
	}
	findings, notes, err := c.tell(t.Context())
	if err != nil || len(notes) > 0 || len(findings) != 1 || !strings.Contains(findings[0], "/etc/state: object ") {
		t.Errorf("findings %q, notes %q, %v", findings, notes, err)
	}
}

// A damaged ref is one finding, which says how it is written again, and hides no other.
func TestDamagedRefInBucket(t *testing.T) {
	path := made(t, inBucket)
	rot(t, file(t, path, "os/y", "/etc/state"))
	must.OK(t, os.WriteFile(filepath.Join(path, "refs/heads/os/x"), []byte(strings.Repeat("spoilt", 100)), 0o644))
	findings, _ := run(t, inBucket, path)
	if len(findings) != 2 || !strings.HasPrefix(findings[0], "ref os/x of repository s3://repositories/os: ") ||
		!strings.Contains(findings[0], "; write it again: echo COMMIT | aws s3 cp --endpoint-url http://127.0.0.1:") ||
		!strings.HasSuffix(findings[0], " --cache-control no-cache - s3://repositories/os/refs/heads/os/x") ||
		!strings.HasPrefix(findings[1], "ref os/y, commit ") {
		t.Errorf("findings %q", findings)
	}
}
