// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package crash

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/site"
)

// everyServerMishap goes through all points of the server: of one that makes its
// repository, until it listens, and of one that takes an update, to its stop, in each of
// two encodings.
func everyServerMishap(t *testing.T, effects []string, someStart, some int) {
	t.Parallel()
	for _, c := range []struct {
		scenario *site.Scenario
		start    bool
		some     int
	}{{site.NewScenario(t), true, someStart}, {site.NewUpdate(t), false, some}, {site.NewEncoded(t), false, some}} {
		points := c.scenario.Record(c.start)
		site.EveryMishap(t, points, effects, c.some, func(t *testing.T, f *site.Mishap) { c.scenario.Play(t, f).Run() })
	}
}

// The server is killed before and after each point of a small push, or the call
// there fails: nothing is damaged, a restart and perhaps the same push again
// publish all of it.
func TestServerPoints(t *testing.T) {
	everyServerMishap(t, slices.Concat(site.Kills, site.Errnos), 1, 5)
}

// The same, and with the server the host loses power: what was not synced is
// gone, or files keep their names and lose their bytes.
func TestPowerCutPoints(t *testing.T) {
	site.NewDisk(t, 64<<20) // skips where there can be none
	everyServerMishap(t, site.PowerCuts, 1, 3)
}

// The same for a push that repairs: nothing good is damaged or gone, whatever was, and in
// the end all is good, in an archive and where files are replaced by copies.
func TestRepairPoints(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"archive", "bare-user"} {
		c := site.NewRepair(t, mode)
		run := func(t *testing.T, f *site.Mishap) { c.Play(t, f).Run() }
		site.EveryMishap(t, c.Record(false), slices.Concat(site.Kills, site.Errnos), 4, run)
		t.Run("power cuts", func(t *testing.T) {
			site.NewDisk(t, 64<<20) // skips where there can be none
			site.EveryMishap(t, c.Record(false), site.PowerCuts, 3, run)
		})
	}
}

// The client is killed before and after each of its requests, or the request
// fails: the same command again publishes all, and no session is left.
func TestClientPoints(t *testing.T) {
	t.Parallel()
	c := site.NewUpdate(t)
	play := func(t *testing.T, f *site.Mishap) {
		p := c.Play(t, f)
		p.Start(c.Args...)
		p.Proxy = p.Link()
		e := <-p.FaultyClient()
		if f.Effect == "" || f.Effect == "EIO" {
			e.Must(t, 0)
		}
		p.Publish()
		p.Finish()
	}
	recorded := &site.Mishap{Record: filepath.Join(t.TempDir(), "points")}
	play(t, recorded)
	site.EveryMishap(t, recorded.Points(t), []string{"kill-before", "kill-after", "EIO"}, 3, play)
}

// gentoken is killed before and after each step of writing the configuration,
// loses power there, or fails: the file is the old one or the new one, and
// takes another token.
func TestConfigPoints(t *testing.T) {
	t.Parallel()
	play := func(t *testing.T, f *site.Mishap) {
		s := site.At(t, t.TempDir())
		var d *site.Disk
		if slices.Contains(site.PowerCuts, f.Effect) {
			d = site.NewDisk(t, 64<<20)
			s.Dir = d.Dir
		}
		s.Run("gentoken", "--name", "old").Must(t, 0)
		path := s.Config()
		before, err := os.ReadFile(path)
		must.OK(t, err)
		cmd := s.Command("gentoken", "--name", "new", "--config", path)
		cmd.Path, cmd.Env = site.FaultyProgram(t), append(cmd.Env, f.Env(s.Dir)...)
		cmd.Dir = t.TempDir() // nobody is on a disk that loses power
		e := site.Finish(t, cmd)
		if d != nil {
			d.RestoreOrSkip()
		}
		after, err := os.ReadFile(path)
		must.OK(t, err)
		if bytes.Equal(after, before) && e.Exit != 0 {
			s.Run("gentoken", "--name", "new").Must(t, 0)
		}
		s.Run("gentoken", "--name", "newest").Must(t, 0)
		c, err := config.Load(path)
		must.OK(t, err)
		if len(c.Tokens) != 3 {
			t.Errorf("%s: exit code %d, then tokens %+v", f, e.Exit, c.Tokens)
		}
	}
	recorded := &site.Mishap{Record: filepath.Join(t.TempDir(), "points")}
	play(t, recorded)
	site.EveryMishap(t, recorded.Points(t), slices.Concat(site.Kills, site.Errnos), 3, play)
	t.Run("power cuts", func(t *testing.T) {
		site.NewDisk(t, 64<<20) // skips where there can be none
		site.EveryMishap(t, recorded.Points(t), site.PowerCuts, 3, play)
	})
}

// A sync that fails ends the server, and not as a clean stop: what it staged is
// verified again before anything relies on it.
func TestFailedSync(t *testing.T) {
	t.Parallel()
	c := site.NewUpdate(t)
	points := []string{"syncfs staged#1", "syncfs staged#2", "syncfs prod#1", "syncfs prod#2"}
	if !site.Full() {
		points = points[:1]
	}
	for _, point := range points {
		t.Run(point, func(t *testing.T) {
			p := c.Play(t, &site.Mishap{Point: point, Effect: "EIO", Record: filepath.Join(t.TempDir(), "points")})
			p.StartFaulty()
			client := p.Client()
			if err := p.Server.Wait(); err == nil || !strings.Contains(err.Error(), "exit status 1") || !strings.Contains(err.Error(), "not synced") {
				t.Errorf("the server ended with %v", err)
			}
			p.Ended()
			p.Restart(p.Proxy)
			if !strings.Contains(p.Server.Log.String(), "unclean stop") {
				t.Error("what is staged was trusted")
			}
			if e := <-client; e.Exit != 0 {
				p.Publish()
			}
			p.Finish()
		})
	}
}

// A sync that fails while check --repair verifies what is staged leaves the mark
// of an unclean stop, also where the stop before was clean: the next start
// verifies all of it.
func TestFailedSyncInRepair(t *testing.T) {
	t.Parallel()
	f := &site.Mishap{Point: "syncfs staged#1", Effect: "EIO", Record: filepath.Join(t.TempDir(), "points")}
	p := site.NewUpdate(t).Play(t, f)
	repair := p.Command("check", "--repair", "--repo", "prod")
	repair.Path, repair.Env = site.FaultyProgram(t), append(repair.Env, f.Env(p.Dir)...)
	if e := site.Finish(t, repair).Must(t, 1); !strings.Contains(e.Stderr, "not synced") {
		t.Errorf("it says %s", e.Stderr)
	}
	p.Start()
	if !strings.Contains(p.Server.Log.String(), "unclean stop") {
		t.Error("what is staged was trusted")
	}
	p.Proxy = p.Link()
	p.Publish()
	p.Finish()
}

// A server that made its repository and was killed before it took the mark of
// that away leaves one that is used by a start without --init: a later start
// with --init keeps what was published there.
func TestInitOfUsed(t *testing.T) {
	t.Parallel()
	c := site.NewScenario(t)
	p := c.Play(t, &site.Mishap{Point: "remove#1", Effect: "kill-before", Record: filepath.Join(t.TempDir(), "points")})
	if _, err := site.StartProgram(site.FaultyProgram(t), p.Dir, append(os.Environ(), p.Mishap.Env("")...), c.Args...); err == nil {
		t.Fatal("it started")
	}
	mark := filepath.Join(p.Prod, ".ostree-upload.init")
	if site.Missing(mark) {
		t.Fatal("there is no mark")
	}
	p.Start()
	p.Push(&c.Build)
	must.OK(t, p.Server.Stop())
	p.Start("--init")
	p.Twin.Arrived(p.Site)
	if !site.Missing(mark) {
		t.Error("the mark is still there")
	}
}
