// SPDX-License-Identifier: AGPL-3.0-or-later

package site

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/must"
)

// A Scenario is a site whose server is stopped, and a small push to it: two refs,
// a pack, an object that travels alone, signatures, a summary, a command that follows.
type Scenario struct {
	*Twin
	dir   string // of the site, to be copied
	token string
	Args  []string // of the server

	Encoding string // of the push; "": as the push chooses
	deltas   bool   // static deltas follow
	bucket   bool   // the repository is in a bucket

	damaged map[string]bool // objects of the repository that the push is to repair; nil: none
}

// NewScenario makes a site whose repository the server is still to make.
func NewScenario(t *testing.T) *Scenario {
	t.Helper()
	c := &Scenario{Twin: NewTwin(t, 3), dir: t.TempDir(), Args: []string{"--repo", "prod", "--init"}}
	s := At(t, c.dir)
	s.MakeToken()
	s.Configure("limits: {min-free-space: 0}") // so that small disks do
	s.Configure(follows)
	must.OK(t, os.WriteFile(followed(c.dir), nil, 0o644))
	c.token = s.Token
	c.commit()
	return c
}

// NewUpdate makes a site that has the commits before those to be pushed, with more lines
// of configuration.
func NewUpdate(t *testing.T, lines ...string) *Scenario {
	t.Helper()
	c := NewScenario(t)
	s := c.Site(t)
	for _, line := range lines {
		s.Configure(line)
	}
	c.pushed(t)
	return c
}

// pushed pushes the commits of a scenario, and makes others.
func (c *Scenario) pushed(t *testing.T) {
	t.Helper()
	s := c.Site(t)
	s.Start("--init")
	s.Push(&c.Build, "--wait-after")
	must.OK(t, s.Server.Stop())
	c.Args = []string{"--repo", "prod"}
	c.commit()
}

// NewEncoded is NewUpdate with a push that sends differences.
func NewEncoded(t *testing.T) *Scenario {
	t.Helper()
	c := NewUpdate(t)
	c.Encoding = "delta"
	return c
}

// Site is the site that is copied.
func (c *Scenario) Site(t *testing.T) *Site {
	s := At(t, c.dir)
	s.Token = c.token
	return s
}

// commit commits and signs the next state of both refs.
func (c *Scenario) commit() {
	c.T.Helper()
	large := RandomBytes(rand.NewChaCha8(sha256.Sum256([]byte("large"))), wire.MaxPackPayload+100_000)
	copy(large, fmt.Sprintf("version %d", c.N)) // the next one is a difference of a few bytes
	must.OK(c.T, WriteFile(filepath.Join(c.Tree, "large"), large, 0o644))
	for _, commit := range c.Next() {
		DummySign(c.T, c.Repo, commit, "key")
	}
}

// Play makes a copy of the site, on a disk of its own if the mishap cuts its power.
func (c *Scenario) Play(t *testing.T, f *Mishap) *Play {
	t.Helper()
	w := *c.Twin
	w.T = t
	p := &Play{scenario: c, Twin: &w, Mishap: f}
	dir := ""
	if slices.Contains(PowerCuts, f.Effect) {
		p.disk = NewDisk(t, 64<<20)
		dir = p.disk.Dir
	} else {
		dir = t.TempDir()
	}
	must.Run(t, "cp", "-a", c.dir+"/.", dir)
	must.Run(t, "sync", "-f", dir)
	p.Site = At(t, dir)
	p.Token = c.token
	if c.bucket {
		p.InBucket()
	}
	t.Cleanup(p.End)
	return p
}

// Record plays a scenario without an effect and returns the server's points: all,
// or those before it listens.
func (c *Scenario) Record(startOnly bool) []string {
	c.T.Helper()
	p := c.Play(c.T, &Mishap{Record: filepath.Join(c.T.TempDir(), "points")})
	p.StartFaulty()
	if startOnly {
		return p.Mishap.Points(c.T)
	}
	p.Publish()
	p.Finish()
	return p.Mishap.Points(c.T)
}
