// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/link"
)

// A scenario is a site whose server is stopped, and a small push to it: two refs,
// a pack, an object that travels alone, signatures, a summary.
type scenario struct {
	*twin
	dir   string // of the site, to be copied
	token string
	args  []string // of the server
}

// newScenario makes a site whose repository the server is still to make.
func newScenario(t *testing.T) *scenario {
	t.Helper()
	c := &scenario{twin: newTwin(t, 3), dir: t.TempDir(), args: []string{"--repo", "prod", "--init"}}
	// So that small disks do.
	check(t, os.WriteFile(filepath.Join(c.dir, "ostree-upload.yaml"), []byte("limits: {min-free-space: 0}\n"), 0o600))
	s := &site{t: t, dir: c.dir}
	c.token = strings.TrimSpace(s.run("gentoken", "--name", "ci").must(t, 0).stdout)
	c.commit()
	return c
}

// newUpdate makes a site that has the commits before those to be pushed.
func newUpdate(t *testing.T) *scenario {
	t.Helper()
	c := newScenario(t)
	s := &site{t: t, dir: c.dir, prod: filepath.Join(c.dir, "prod"), token: c.token}
	s.start("--init")
	s.push(&c.build)
	check(t, s.server.stop())
	c.args = []string{"--repo", "prod"}
	c.commit()
	return c
}

// commit commits and signs the next state of both refs.
func (c *scenario) commit() {
	c.t.Helper()
	random := rand.NewChaCha8(sha256.Sum256(fmt.Append(nil, "large", c.n)))
	check(c.t, writeFile(filepath.Join(c.tree, "large"), randomBytes(random, wire.MaxPackPayload+100_000), 0o644))
	for _, commit := range c.next() {
		dummy(c.t, c.repo, commit, "key")
	}
}

// A play is one run of a scenario, on a copy of its site.
type play struct {
	*site
	scenario *scenario
	twin     *twin
	mishap   *mishap // of the server or, if there is none, of the client
	disk     *disk   // nil but for power cuts
	l        *link.Proxy
}

func (c *scenario) play(t *testing.T, f *mishap) *play {
	t.Helper()
	w := *c.twin
	w.t = t
	p := &play{scenario: c, twin: &w, mishap: f}
	dir := ""
	if slices.Contains(powerCuts, f.effect) {
		p.disk = newDisk(t, 64<<20)
		dir = p.disk.dir
	} else {
		dir = t.TempDir()
	}
	for _, args := range [][]string{{"cp", "-a", c.dir + "/.", dir}, {"sync", "-f", dir}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", args[0], err, out)
		}
	}
	p.site = &site{t: t, dir: dir, prod: filepath.Join(dir, "prod"), token: c.token}
	t.Cleanup(p.end)
	return p
}

// startFaulty starts the server with the mishap. Where that ends it before it
// listens, one without follows.
func (p *play) startFaulty() {
	p.t.Helper()
	var err error
	p.server, err = startProgram(faultyProgram(p.t), p.dir, append(os.Environ(), p.mishap.env(p.dir)...), p.scenario.args...)
	if err == nil {
		p.url = "http://" + p.server.address
		p.l = p.link()
		return
	}
	if !p.mishap.hit(p.t) {
		p.t.Fatal(err)
	}
	p.ended()
	p.start(p.scenario.args...)
	p.l = p.link()
}

// ended checks what a server that the mishap has ended left behind.
func (p *play) ended() {
	p.t.Helper()
	if p.disk != nil && p.mishap.hit(p.t) {
		check(p.t, p.disk.unmount())
		check(p.t, p.disk.mount())
	}
	if missing(filepath.Join(p.prod, "config")) || !missing(filepath.Join(p.prod, ".ostree-upload.init")) {
		return // no repository yet
	}
	if notes := p.twin.sound(p.site, p.mishap.String()); leftBehind(notes) {
		p.t.Log(notes)
	}
}

// publish pushes until all is published, as often as a person would give the
// same command.
func (p *play) publish() {
	p.t.Helper()
	client := p.client()
	for again := 0; ; {
		var e ending
		select {
		case e = <-client:
		case <-p.server.ended:
			p.ended()
			p.restart(p.l)
			e = <-client
		}
		if e.exit == 0 {
			return
		}
		if again++; again > 2 {
			p.t.Fatalf("%s: exit code %d, for the third time:\n%s", p.mishap, e.exit, e.stderr)
		}
		client = p.client()
	}
}

// client starts the push.
func (p *play) client() <-chan ending {
	p.t.Helper()
	return p.background(p.pushing())
}

func (p *play) pushing() *exec.Cmd {
	return p.command("push", "--json", "--repo", p.twin.repo, "--jobs", "1", "--retry-for", patience.String())
}

// faultyClient starts the push with the mishap.
func (p *play) faultyClient() <-chan ending {
	p.t.Helper()
	cmd := p.pushing()
	cmd.Path, cmd.Env = faultyProgram(p.t), append(cmd.Env, p.mishap.env("")...)
	return p.background(cmd)
}

func (p *play) background(cmd *exec.Cmd) <-chan ending {
	p.t.Helper()
	cmd.Dir = p.twin.repo // nobody is on a disk that loses power
	wait := background(p.t, cmd)
	ended := make(chan ending, 1)
	go func() { ended <- wait() }()
	return ended
}

// finish stops the server, which may be where the mishap is, and checks that all
// is published and nothing left behind.
func (p *play) finish() {
	p.t.Helper()
	_ = p.server.process.Signal(syscall.SIGTERM) // fails where it has ended
	if err := p.server.wait(); err != nil {
		if !p.mishap.hit(p.t) {
			p.t.Fatal(err)
		}
		p.ended()
	}
	p.start()
	if list := p.sessions(wire.Open); len(list) > 0 {
		p.t.Errorf("%s: sessions %+v are still open", p.mishap, list)
	}
	check(p.t, p.server.stop())
	if notes := p.twin.sound(p.site, p.mishap.String()+", published"); leftBehind(notes) {
		p.t.Errorf("%s: left behind: %s", p.mishap, notes)
	}
	p.twin.arrived(p.site)
	summary := runOSTree(p.t, "summary", "--view", "--repo="+p.prod)
	for _, commit := range p.twin.heads[p.twin.n-1] {
		if !strings.Contains(summary, commit) {
			p.t.Errorf("%s: the summary does not name %s", p.mishap, commit)
		}
	}
}

func (p *play) run() {
	p.t.Helper()
	p.startFaulty()
	p.publish()
	p.finish()
}

// record plays a scenario without an effect and returns the server's points: all,
// or those before it listens.
func (c *scenario) record(startOnly bool) []string {
	c.t.Helper()
	p := c.play(c.t, &mishap{record: filepath.Join(c.t.TempDir(), "points")})
	p.startFaulty()
	if startOnly {
		return p.mishap.points(c.t)
	}
	p.publish()
	p.finish()
	return p.mishap.points(c.t)
}

func missing(path string) bool {
	_, err := os.Stat(path)
	return errors.Is(err, fs.ErrNotExist)
}
