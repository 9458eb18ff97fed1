// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/internal/config"
)

// everyServerMishap goes through all points of the server: of one that makes its
// repository, until it listens, and of one that takes an update, to its stop.
func everyServerMishap(t *testing.T, effects []string, someStart, some int) {
	t.Parallel()
	for _, c := range []struct {
		scenario *scenario
		start    bool
		some     int
	}{{newScenario(t), true, someStart}, {newUpdate(t), false, some}} {
		points := c.scenario.record(c.start)
		everyMishap(t, points, effects, c.some, func(t *testing.T, f *mishap) { c.scenario.play(t, f).run() })
	}
}

// The server is killed before and after each point of a small push, or the call
// there fails: nothing is damaged, a restart and perhaps the same push again
// publish all of it.
func TestServerPoints(t *testing.T) {
	everyServerMishap(t, slices.Concat(kills, errnos), 1, 5)
}

// The same, and with the server the host loses power: what was not synced is
// gone, or files keep their names and lose their bytes.
func TestPowerCutPoints(t *testing.T) {
	newDisk(t, 64<<20) // skips where there can be none
	everyServerMishap(t, powerCuts, 1, 3)
}

// The client is killed before and after each of its requests, or the request
// fails: the same command again publishes all, and no session is left.
func TestClientPoints(t *testing.T) {
	t.Parallel()
	c := newUpdate(t)
	play := func(t *testing.T, f *mishap) {
		p := c.play(t, f)
		p.start(c.args...)
		p.l = p.link()
		e := <-p.faultyClient()
		if f.effect == "" || f.effect == "EIO" {
			e.must(t, 0)
		}
		p.publish()
		p.finish()
	}
	recorded := &mishap{record: filepath.Join(t.TempDir(), "points")}
	play(t, recorded)
	everyMishap(t, recorded.points(t), []string{"kill-before", "kill-after", "EIO"}, 3, play)
}

// gentoken is killed before and after each step of writing the configuration,
// loses power there, or fails: the file is the old one or the new one, and
// takes another token.
func TestConfigPoints(t *testing.T) {
	t.Parallel()
	play := func(t *testing.T, f *mishap) {
		s := &site{t: t, dir: t.TempDir()}
		var d *disk
		if slices.Contains(powerCuts, f.effect) {
			d = newDisk(t, 64<<20)
			s.dir = d.dir
		}
		s.run("gentoken", "--name", "old").must(t, 0)
		path := filepath.Join(s.dir, "ostree-upload.yaml")
		before, err := os.ReadFile(path)
		check(t, err)
		cmd := s.command("gentoken", "--name", "new", "--config", path)
		cmd.Path, cmd.Env = faultyProgram(t), append(cmd.Env, f.env(s.dir)...)
		cmd.Dir = t.TempDir() // nobody is on a disk that loses power
		e := finish(t, cmd)
		if d != nil {
			check(t, d.unmount())
			check(t, d.mount())
		}
		after, err := os.ReadFile(path)
		check(t, err)
		if bytes.Equal(after, before) && e.exit != 0 {
			s.run("gentoken", "--name", "new").must(t, 0)
		}
		s.run("gentoken", "--name", "newest").must(t, 0)
		c, err := config.Load(path)
		check(t, err)
		if len(c.Tokens) != 3 {
			t.Errorf("%s: exit code %d, then tokens %+v", f, e.exit, c.Tokens)
		}
	}
	recorded := &mishap{record: filepath.Join(t.TempDir(), "points")}
	play(t, recorded)
	everyMishap(t, recorded.points(t), slices.Concat(kills, errnos), 3, play)
	t.Run("power cuts", func(t *testing.T) {
		newDisk(t, 64<<20) // skips where there can be none
		everyMishap(t, recorded.points(t), powerCuts, 3, play)
	})
}

// A sync that fails ends the server, and not as a clean stop: what it staged is
// verified again before anything relies on it.
func TestFailedSync(t *testing.T) {
	t.Parallel()
	c := newUpdate(t)
	points := []string{"syncfs staged#1", "syncfs staged#2", "syncfs prod#1", "syncfs prod#2"}
	if !full() {
		points = points[:1]
	}
	for _, point := range points {
		t.Run(point, func(t *testing.T) {
			p := c.play(t, &mishap{point: point, effect: "EIO", record: filepath.Join(t.TempDir(), "points")})
			p.startFaulty()
			client := p.client()
			if err := p.server.wait(); err == nil || !strings.Contains(err.Error(), "exit status 1") || !strings.Contains(err.Error(), "not synced") {
				t.Errorf("the server ended with %v", err)
			}
			p.ended()
			p.restart(p.l)
			if !strings.Contains(p.server.log.String(), "unclean stop") {
				t.Error("what is staged was trusted")
			}
			if e := <-client; e.exit != 0 {
				p.publish()
			}
			p.finish()
		})
	}
}

// A sync that fails while check --repair verifies what is staged leaves the mark
// of an unclean stop, also where the stop before was clean: the next start
// verifies all of it.
func TestFailedSyncInRepair(t *testing.T) {
	t.Parallel()
	f := &mishap{point: "syncfs staged#1", effect: "EIO", record: filepath.Join(t.TempDir(), "points")}
	p := newUpdate(t).play(t, f)
	repair := p.command("check", "--repair", "--repo", "prod")
	repair.Path, repair.Env = faultyProgram(t), append(repair.Env, f.env(p.dir)...)
	if e := finish(t, repair).must(t, 1); !strings.Contains(e.stderr, "not synced") {
		t.Errorf("it says %s", e.stderr)
	}
	p.start()
	if !strings.Contains(p.server.log.String(), "unclean stop") {
		t.Error("what is staged was trusted")
	}
	p.l = p.link()
	p.publish()
	p.finish()
}

// A server that made its repository and was killed before it took the mark of
// that away leaves one that is used by a start without --init: a later start
// with --init keeps what was published there.
func TestInitOfUsed(t *testing.T) {
	t.Parallel()
	c := newScenario(t)
	p := c.play(t, &mishap{point: "remove#1", effect: "kill-before", record: filepath.Join(t.TempDir(), "points")})
	if _, err := startProgram(faultyProgram(t), p.dir, append(os.Environ(), p.mishap.env("")...), c.args...); err == nil {
		t.Fatal("it started")
	}
	mark := filepath.Join(p.prod, ".ostree-upload.init")
	if missing(mark) {
		t.Fatal("there is no mark")
	}
	p.start()
	p.push(&c.build)
	check(t, p.server.stop())
	p.start("--init")
	p.twin.arrived(p.site)
	if !missing(mark) {
		t.Error("the mark is still there")
	}
}
