// SPDX-License-Identifier: AGPL-3.0-or-later

package site

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/store"
)

// A Bucket is where the repository of a site is, if that is not on its disk.
type Bucket struct {
	URL    string       // of the store
	Faults *store.Proxy // through which the server goes there; nil: directly
}

// folderInBucket is where in the bucket the repository is.
const folderInBucket = "os/"

// InBucket has the site's repository be in a bucket of a store of its own. Prod is then
// what Look last saw there, and what is there of Prod already is put into the bucket.
func (s *Site) InBucket() {
	s.T.Helper()
	url := store.Fake(s.T, store.FakeOptions{})
	if !Missing(s.Prod) {
		store.Fill(s.T, url, store.FakeBucket, folderInBucket, s.Prod)
	}
	s.Bucket = &Bucket{url, store.NewProxy(s.T, url)}
	s.place(s.Bucket.Faults.URL)
}

// InGateway has it be in a bucket of a real store, which keeps it in a folder: Prod is
// that. Tests are skipped where the machine has no such store.
func (s *Site) InGateway() {
	s.T.Helper()
	g := store.New(s.T)
	g.Bucket(s.T, store.FakeBucket)
	s.Prod = filepath.Join(g.Folder, store.FakeBucket, folderInBucket)
	must.OK(s.T, makeFolders(s.Prod))
	s.Bucket = &Bucket{URL: g.URL}
	s.place(g.URL)
}

// place has the server go to a store.
func (s *Site) place(url string) {
	s.T.Helper()
	s.Configure(fmt.Sprintf("repo: s3://%s/%s\nstate: %s\ns3: {endpoint: %q, path-style: true}",
		store.FakeBucket, folderInBucket, filepath.Join(s.Dir, "state"), url))
}

// makeFolders makes those of a repository that no file of a bucket needs.
func makeFolders(repo string) error {
	for _, folder := range []string{"objects", "refs/heads", "refs/mirrors", "refs/remotes", "state", "tmp"} {
		if err := os.MkdirAll(filepath.Join(repo, folder), 0o755); err != nil {
			return err
		}
	}
	return nil
}

// Look has Prod be the repository as it is in the bucket now, if it is in one.
func (s *Site) Look() {
	s.T.Helper()
	if s.Bucket != nil && s.Bucket.Faults != nil { // else Prod is it
		must.OK(s.T, s.Bucket.copy(s.Prod))
	}
}

// copy has a folder be the repository as it is in the bucket now.
func (b *Bucket) copy(dir string) error {
	if err := store.Copy(b.URL, store.FakeBucket, folderInBucket, dir); err != nil {
		return err
	}
	if Missing(filepath.Join(dir, "config")) {
		return nil // no repository yet
	}
	return makeFolders(dir)
}

// env is the environment of the server, and of commands beside it.
func (s *Site) env() []string {
	if s.Bucket == nil {
		return os.Environ()
	}
	return append(os.Environ(), store.Env()...)
}

// placeFlags say where the repository is.
func (s *Site) placeFlags() []string {
	if s.Bucket == nil {
		return []string{"--repo", "prod"}
	}
	return nil // the configuration does
}

// NewInBucket is NewUpdate with a repository in a bucket.
func NewInBucket(t *testing.T, lines ...string) *Scenario {
	t.Helper()
	c := NewScenario(t)
	c.bucket, c.Args = true, nil
	for _, line := range lines {
		c.Site(t).Configure(line)
	}
	p := c.Play(t, &Mishap{})
	p.Start("--init")
	p.Push(&c.Build, "--wait-after")
	must.OK(t, p.Server.Stop())
	p.Look()
	for _, name := range []string{"prod", "state", "followed"} {
		must.OK(t, os.RemoveAll(filepath.Join(c.dir, name)))
		must.Run(t, "cp", "-a", filepath.Join(p.Dir, name), c.dir)
	}
	c.commit()
	return c
}

// checkMarks checks that a publish left nothing beside the repository in its bucket. A
// probe that was killed may have, until a start a day later.
func (p *Play) checkMarks() {
	p.T.Helper()
	left, err := filepath.Glob(filepath.Join(p.Prod, ".ostree-upload", "*"))
	must.OK(p.T, err)
	for _, name := range left {
		if !strings.HasPrefix(filepath.Base(name), "probe-") {
			p.T.Errorf("%s: the bucket still has %s", p.Mishap, name)
		}
	}
}
