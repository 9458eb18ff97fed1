// SPDX-License-Identifier: AGPL-3.0-or-later

package server

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/bucket"
	"github.com/lirios/ostree-upload/internal/mirror"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/test/must"
)

// InBucket is the mode of an archive in a store that runs in the process.
const InBucket = "bucket"

// Prefix is where a repository is in its bucket.
const Prefix = "os/prod"

// StartAt serves a repository in a bucket, which it makes if it is not there. Several may
// serve one: each has its own state. Each change is made to how the bucket is asked.
func StartAt(t testing.TB, url, name string, change ...func(*bucket.Config)) *Server {
	t.Helper()
	state := filepath.Join(t.TempDir(), "state")
	s := &Server{t: t, Repo: mirror.Folder(state), State: state, bucket: &bucket.Config{
		Bucket: name, Prefix: Prefix, Endpoint: url, PathStyle: true, Log: Logger(t), Tries: 3, Backoff: 20 * time.Millisecond,
	}}
	for _, c := range change {
		c(s.bucket)
	}
	must.OK(t, mirror.Init(t.Context(), s.Bucket()))
	return start(t, s)
}

// Bucket is the bucket of the repository.
func (s *Server) Bucket() *bucket.Bucket {
	s.t.Helper()
	b, err := bucket.Open(context.Background(), *s.bucket)
	must.OK(s.t, err)
	return b
}

// bucketRef reads a ref from the bucket.
func (s *Server) bucketRef(name string) string {
	s.t.Helper()
	b, _, err := s.Bucket().Get(context.Background(), "refs/heads/"+name, 100)
	if errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	must.OK(s.t, err)
	return strings.TrimSpace(string(b))
}

// Download copies the repository from the bucket to the disk, and returns its path.
func (s *Server) Download() string {
	s.t.Helper()
	path := filepath.Join(s.t.TempDir(), "download")
	for _, folder := range []string{"objects", "refs/heads", "refs/remotes", "refs/mirrors", "state", "tmp", "extensions"} {
		must.OK(s.t, os.MkdirAll(filepath.Join(path, folder), 0o755))
	}
	b := s.Bucket()
	must.OK(s.t, b.List(context.Background(), "", func(e bucket.Entry) error {
		from, _, err := b.Reader(context.Background(), e.Key)
		must.OK(s.t, err)
		defer from.Close()
		file := filepath.Join(path, e.Key)
		must.OK(s.t, os.MkdirAll(filepath.Dir(file), 0o755))
		to, err := os.Create(file)
		must.OK(s.t, err)
		_, err = io.Copy(to, from)
		return errors.Join(err, to.Close())
	}))
	return path
}

// Local is a folder that has what the repository has now.
func (s *Server) Local() string {
	if s.bucket == nil {
		return s.Repo
	}
	return s.Download()
}

// Lose takes an object away, as somebody who prunes what is still needed.
func (s *Server) Lose(n ostree.Name) {
	s.t.Helper()
	if s.bucket == nil {
		must.OK(s.t, os.Remove(filepath.Join(s.Repo, "objects", n.Path())))
		return
	}
	must.OK(s.t, s.Bucket().Delete(context.Background(), mirror.Key(n), ""))
}

// Held is what the repository has of an object, in archive form.
func (s *Server) Held(n ostree.Name) []byte {
	s.t.Helper()
	if s.bucket == nil {
		b, err := os.ReadFile(filepath.Join(s.Repo, "objects", n.Path()))
		must.OK(s.t, err)
		return b
	}
	b, _, err := s.Bucket().Get(context.Background(), mirror.Key(n), ostree.MaxMetadata)
	must.OK(s.t, err)
	return b
}

// Overwrite writes something else over an object.
func (s *Server) Overwrite(n ostree.Name, b []byte) {
	s.t.Helper()
	if s.bucket != nil {
		_, err := s.Bucket().Put(context.Background(), mirror.Key(n), b)
		must.OK(s.t, err)
		return
	}
	path := filepath.Join(s.Repo, "objects", n.Path())
	must.OK(s.t, os.Remove(path)) // what is staged may share the file
	must.OK(s.t, os.WriteFile(path, b, 0o644))
}

// SetRef moves a ref as somebody else, or deletes it if commit is "".
func (s *Server) SetRef(name, commit string) {
	s.t.Helper()
	switch {
	case s.bucket == nil && commit == "":
		must.OSTree(s.t, "refs", "--repo="+s.Repo, "--delete", name)
	case s.bucket == nil:
		must.OSTree(s.t, "refs", "--repo="+s.Repo, commit, "--force", "--create="+name)
	case commit == "":
		must.OK(s.t, s.Bucket().Delete(context.Background(), mirror.RefKey(name), ""))
	default:
		_, err := s.Bucket().Put(context.Background(), mirror.RefKey(name), []byte(commit+"\n"))
		must.OK(s.t, err)
	}
}

// MakeSummary makes the first summary, which each publish keeps up from then on.
func (s *Server) MakeSummary() {
	s.t.Helper()
	if s.bucket == nil {
		must.OSTree(s.t, "summary", "--update", "--repo="+s.Repo)
		return
	}
	repo, err := ostree.OpenRepo(s.Repo)
	must.OK(s.t, err)
	b, err := repo.Summary(nil, time.Now())
	must.OK(s.t, err)
	_, err = s.Bucket().Put(context.Background(), "summary", b)
	must.OK(s.t, err)
}
