// SPDX-License-Identifier: AGPL-3.0-or-later

package site

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
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
	makeFolders(s.T, s.Prod)
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
func makeFolders(t *testing.T, repo string) {
	t.Helper()
	for _, folder := range []string{"objects", "refs/heads", "refs/mirrors", "refs/remotes", "state", "tmp"} {
		must.OK(t, os.MkdirAll(filepath.Join(repo, folder), 0o755))
	}
}

// Look has Prod be the repository as it is in the bucket now, if it is in one.
func (s *Site) Look() {
	s.T.Helper()
	if s.Bucket == nil || s.Bucket.Faults == nil { // Prod is it
		return
	}
	store.Copy(s.T, s.Bucket.URL, store.FakeBucket, folderInBucket, s.Prod)
	if Missing(filepath.Join(s.Prod, "config")) {
		return // no repository yet
	}
	makeFolders(s.T, s.Prod)
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

// Requests are what a server asks the store for, from its start until a push
// ends.
func (c *Scenario) Requests(t *testing.T) (points []string) {
	t.Helper()
	p := c.Play(t, &Mishap{})
	p.StartFailing()
	e := <-p.Client()
	e.Must(t, 0)
	for _, r := range p.Bucket.Faults.Requests() {
		points = append(points, pointOf(r))
	}
	p.Finish()
	return points
}

func pointOf(r store.Request) string { return fmt.Sprintf("request %d %s", r.N, r.Kind) }

// Faults are the names of what a store can do to one request that is made good by sending
// it again.
func Faults() (names []string) {
	for _, f := range store.Passing {
		names = append(names, f.Name)
	}
	return names
}

// StartFailing starts the server, of which one request to the store has the mishap. Where
// that kills it before it listens, another one follows.
func (p *Play) StartFailing() {
	p.T.Helper()
	var server atomic.Pointer[os.Process]
	launched := make(chan struct{})
	kill := func() {
		<-launched
		_ = server.Load().Kill() // fails where it has ended
	}
	faults := append(slices.Clone(store.Passing), store.Before(kill).Named("kill-before"), store.After(kill).Named("kill-after"))
	p.Bucket.Faults.Play(func(r store.Request) *store.Fault {
		n := 0
		if _, err := fmt.Sscanf(p.Mishap.Point, "request %d ", &n); err != nil || r.N != n {
			return nil
		}
		must.OK(p.T, os.WriteFile(p.Mishap.Record, []byte("0 "+p.Mishap.Point+"\n"), 0o600))
		return faults[slices.IndexFunc(faults, func(f *store.Fault) bool { return f.Name == p.Mishap.Effect })]
	})
	cmd := receive("ostree-upload", p.Dir, p.env(), p.scenario.Args...)
	var err error
	p.Server, err = Launch(cmd)
	must.OK(p.T, err)
	server.Store(p.Server.Process)
	close(launched)
	if err := p.Server.Await(); err != nil {
		if !p.Mishap.Hit(p.T) || !slices.Contains(Kills, p.Mishap.Effect) {
			p.T.Fatal(err)
		}
		p.Ended()
		p.Start(p.scenario.Args...)
	}
	p.URL = "http://" + p.Server.Address
	p.Proxy = p.Link()
}

// checkMarks checks that a publish left nothing beside the repository in its bucket. A
// probe that was killed may have, until a start a day later.
func (p *Play) checkMarks() {
	p.T.Helper()
	if p.Bucket == nil {
		return
	}
	left, err := filepath.Glob(filepath.Join(p.Prod, ".ostree-upload", "*"))
	must.OK(p.T, err)
	for _, name := range left {
		if !strings.HasPrefix(filepath.Base(name), "probe-") {
			p.T.Errorf("%s: the bucket still has %s", p.Mishap, name)
		}
	}
}
