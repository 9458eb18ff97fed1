// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package crash

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/durable"
	"github.com/lirios/ostree-upload/internal/push"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/link"
	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/site"
)

// A power cut at a random moment of a push of two refs: what was not synced is
// gone. The repository is sound then, each ref names its old or its new commit,
// the new one if the client was told, and the push goes on to its end.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	for name, fsync := range map[string]string{
		"core.fsync":    "true",
		"no core.fsync": "false",
	} {
		t.Run(name, func(t *testing.T) {
			cuts := 4
			if site.Full() {
				cuts = 60
			}
			d := site.NewDisk(t, 512<<20)
			c := &cutter{Twin: site.NewTwin(t, 50), d: d, s: d.Site("0"), random: site.Seed(t), cuts: map[string]int{}}
			c.l = c.s.Link()
			must.OSTree(t, "config", "--repo="+c.s.Prod, "set", "core.fsync", fsync)
			c.Next()
			began := time.Now()
			c.s.Push(&c.Build)
			c.length = time.Since(began)
			for range cuts {
				c.Next()
				c.pushAndCut()
				c.Arrived(c.s)
			}
			must.OK(t, c.s.Server.Stop())
			c.Sound(c.s, "done")
			t.Logf("cuts: %v; %d of the pushes were published before", c.cuts, c.before)
		})
	}
}

// A cutter cuts the power of a site on a disk of its own.
type cutter struct {
	*site.Twin
	d      *site.Disk
	s      *site.Site
	l      *link.Proxy
	random *rand.Rand
	length time.Duration // of a push
	cuts   map[string]int
	before int // pushes that were published when the power went
}

// pushAndCut pushes the last commits, cuts the power once, and sees the push to
// its end.
func (c *cutter) pushAndCut() {
	c.T.Helper()
	must.OK(c.T, durable.SyncFS(c.d.Dir)) // so that all of a cut's damage is to this push
	var others sync.WaitGroup
	if c.random.IntN(2) == 0 {
		others.Go(c.d.Syncing)
	}
	ended := c.push()
	when := c.moment(ended)
	c.d.Cut()
	c.cuts[when]++
	c.s.Server.Kill()
	others.Wait()
	must.OK(c.T, c.d.Restore())
	c.Sound(c.s, "power cut, "+when)
	published := c.atNew()
	if published {
		c.before++
	}
	select {
	case e := <-ended:
		if e.Exit == 0 && !published {
			c.T.Fatalf("power cut, %s: what the client was told is published is lost", when)
		}
		ended <- e
	default: // it waits for the server
	}
	c.s.Restart(c.l)
	for range 5 {
		e := <-ended
		if e.Exit == 0 {
			return
		}
		e.Must(c.T, push.ExitForNow)
		ended = c.push()
	}
	c.T.Fatal("the push does not end")
}

// push starts a client: a patient one, or one that gives up at once.
func (c *cutter) push() (ended chan site.Ending) {
	c.T.Helper()
	patience := "5m"
	if c.random.IntN(2) == 0 {
		patience = "0s"
	}
	cmd := c.s.Command("push", "--json", "--repo", c.Repo, "--jobs", "2", "--retry-for", patience)
	cmd.Dir = filepath.Dir(c.Repo) // the disk must come off under it
	wait := site.Background(c.T, cmd)
	ended = make(chan site.Ending, 1)
	go func() { ended <- wait() }()
	return ended
}

// moment waits for the one at which the power goes.
func (c *cutter) moment(ended chan site.Ending) (when string) {
	c.T.Helper()
	ctx, cancel := context.WithCancel(c.T.Context())
	defer cancel()
	come := make(chan struct{})
	state := func(state string) {
		api := c.s.API()
		go func() {
			if site.UntilState(ctx, api, state) {
				close(come)
			}
		}()
	}
	moment := []string{"at any time", "upload", wire.Verifying, wire.Publishing, wire.Published}[c.random.IntN(5)]
	var delay time.Duration
	switch moment {
	case "at any time":
		delay = time.Duration(c.random.Int64N(int64(c.length)))
		close(come)
	case "upload":
		c.l.At(c.l.Delivered()+1+c.random.Int64N(c.Payload), sync.OnceFunc(func() { close(come) }))
	case wire.Published:
		e := <-ended
		e.Must(c.T, 0)
		ended <- e
		return moment
	default:
		delay = time.Duration(c.random.Int64N(int64(60 * time.Millisecond)))
		state(moment)
	}
	select {
	case <-come:
		time.Sleep(delay) // where it falls is what is drawn
	case e := <-ended:
		e.Must(c.T, 0)
		ended <- e
	}
	return moment
}

// atNew tells whether both refs name the last commits.
func (c *cutter) atNew() bool {
	c.T.Helper()
	for i, ref := range site.TwoRefs {
		b, err := os.ReadFile(filepath.Join(c.s.Prod, "refs", "heads", ref))
		must.OK(c.T, err)
		if string(b) != c.Heads[c.N-1][i]+"\n" {
			return false
		}
	}
	return true
}
