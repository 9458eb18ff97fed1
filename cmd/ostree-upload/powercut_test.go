// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lirios/ostree-upload/internal/durable"
	"github.com/lirios/ostree-upload/internal/libostree"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/push"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/link"
)

// shutDown is the kernel's EXT4_IOC_SHUTDOWN, and noLogFlush its flag
// EXT4_GOING_FLAGS_NOLOGFLUSH: from now on the file system writes nothing, not
// even its journal. What was not synced is gone.
const (
	shutDown   = 0x8004587d
	logFlush   = 1 // but here the journal is written: names stay, and bytes are lost
	noLogFlush = 2
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
			if full() {
				cuts = 60
			}
			d := newDisk(t, 512<<20)
			c := &cutter{twin: newTwin(t, 50), d: d, s: d.site("0"), random: crashSeed(t), cuts: map[string]int{}}
			c.l = c.s.link()
			runOSTree(t, "config", "--repo="+c.s.prod, "set", "core.fsync", fsync)
			c.next()
			began := time.Now()
			c.s.push(&c.build)
			c.length = time.Since(began)
			for range cuts {
				c.next()
				c.pushAndCut()
				c.arrived(c.s)
			}
			check(t, c.s.server.stop())
			c.sound(c.s, "done")
			t.Logf("cuts: %v; %d of the pushes were published before", c.cuts, c.before)
		})
	}
}

// A ref never has its name before its bytes, not even in a repository that does
// not sync: one full of zeros would keep every command from reading it.
func TestPowerCutAfterRef(t *testing.T) {
	t.Parallel()
	const ref = "os/cut"
	d := newDisk(t, 64<<20)
	repo := filepath.Join(d.dir, "repo")
	commits := chain(t, repo, ref, 2)
	runOSTree(t, "config", "--repo="+repo, "set", "core.fsync", "false")
	check(t, durable.SyncFS(d.dir))
	old, err := ostree.ParseChecksum(commits[0])
	check(t, err)
	r, err := libostree.Open(repo)
	check(t, err)
	check(t, r.Begin())
	r.SetRef(ref, old)
	r.SetRef(ref+"-new", old)
	check(t, r.Commit())
	r.Close()
	check(t, d.sync())
	d.cut()
	check(t, d.unmount())
	check(t, d.mount())
	for _, name := range []string{ref, ref + "-new"} {
		if got := runOSTree(t, "rev-parse", "--repo="+repo, name); got != commits[0] {
			t.Errorf("%s is %q, want %s", name, got, commits[0])
		}
	}
	if out, err := fsck(repo); err != nil {
		t.Errorf("ostree fsck: %v\n%s", err, out)
	}
}

// A cutter cuts the power of a site on a disk of its own.
type cutter struct {
	*twin
	d      *disk
	s      *site
	l      *link.Proxy
	random *rand.Rand
	length time.Duration // of a push
	cuts   map[string]int
	before int // pushes that were published when the power went
}

// pushAndCut pushes the last commits, cuts the power once, and sees the push to
// its end.
func (c *cutter) pushAndCut() {
	c.t.Helper()
	check(c.t, durable.SyncFS(c.d.dir)) // so that all of a cut's damage is to this push
	var others sync.WaitGroup
	if c.random.IntN(2) == 0 {
		others.Go(c.d.syncing)
	}
	ended := c.push()
	when := c.moment(ended)
	c.d.cut()
	c.cuts[when]++
	c.s.server.kill()
	others.Wait()
	check(c.t, c.d.unmount())
	check(c.t, c.d.mount())
	c.sound(c.s, "power cut, "+when)
	published := c.atNew()
	if published {
		c.before++
	}
	select {
	case e := <-ended:
		if e.exit == 0 && !published {
			c.t.Fatalf("power cut, %s: what the client was told is published is lost", when)
		}
		ended <- e
	default: // it waits for the server
	}
	c.s.restart(c.l)
	for range 5 {
		e := <-ended
		if e.exit == 0 {
			return
		}
		e.must(c.t, push.ExitForNow)
		ended = c.push()
	}
	c.t.Fatal("the push does not end")
}

// push starts a client: a patient one, or one that gives up at once.
func (c *cutter) push() (ended chan ending) {
	c.t.Helper()
	patience := "5m"
	if c.random.IntN(2) == 0 {
		patience = "0s"
	}
	cmd := c.s.command("push", "--json", "--repo", c.repo, "--jobs", "2", "--retry-for", patience)
	cmd.Dir = filepath.Dir(c.repo) // the disk must come off under it
	wait := background(c.t, cmd)
	ended = make(chan ending, 1)
	go func() { ended <- wait() }()
	return ended
}

// moment waits for the one at which the power goes.
func (c *cutter) moment(ended chan ending) (when string) {
	c.t.Helper()
	ctx, cancel := context.WithCancel(c.t.Context())
	defer cancel()
	come := make(chan struct{})
	state := func(state string) {
		api := c.s.api()
		go func() {
			if untilState(ctx, api, state) {
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
		c.l.At(c.l.Delivered()+1+c.random.Int64N(c.payload), sync.OnceFunc(func() { close(come) }))
	case wire.Published:
		e := <-ended
		e.must(c.t, 0)
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
		e.must(c.t, 0)
		ended <- e
	}
	return moment
}

// atNew tells whether both refs name the last commits.
func (c *cutter) atNew() bool {
	c.t.Helper()
	for i, ref := range twoRefs {
		b, err := os.ReadFile(filepath.Join(c.s.prod, "refs", "heads", ref))
		check(c.t, err)
		if string(b) != c.heads[c.n-1][i]+"\n" {
			return false
		}
	}
	return true
}

// cut makes the file system lose all that was not synced, as a power cut does.
func (d *disk) cut() {
	d.t.Helper()
	f, err := os.Open(d.dir)
	check(d.t, err)
	defer f.Close()
	check(d.t, unix.IoctlSetPointerInt(int(f.Fd()), shutDown, noLogFlush))
}

// sync makes a file and syncs it, as other programs on the machine do: the names
// of all files become durable, long before their bytes.
func (d *disk) sync() error {
	f, err := os.CreateTemp(d.dir, "other")
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close(), os.Remove(f.Name()))
}

// syncing syncs again and again until the power is cut.
func (d *disk) syncing() {
	for d.sync() == nil {
	}
}
