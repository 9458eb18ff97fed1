// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package system

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync/atomic"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/lirios/ostree-upload/internal/push"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/site"
)

const (
	fleetAlone  = 30 // clients with a ref of their own
	fleetRivals = 10 // clients of one and the same ref
	rivalsRef   = "os/rivals"
)

// Three receivers over one bucket, of which one is killed and started again in each
// round: 30 clients push to refs of their own, and 10 to one. Those are published, and of
// these one is, and the others are told that the ref has moved. In the end all that each
// ref ever was is one line of compare-and-swap. With CRASH=full there are 20 rounds.
func TestFleet(t *testing.T) {
	t.Parallel()
	rounds := 2
	if site.Full() {
		rounds = 20
	}
	random := site.Seed(t)
	clients, names := fleetClients(t)
	f := newFleet(t, 3, names)
	f.nginx()
	heads := map[string]string{}
	for round := range rounds {
		f.round(round, clients, random)
		for _, c := range clients {
			if c.published {
				heads[c.ref] = c.commit
			}
		}
		for ref, head := range heads {
			if at := f.head(ref); at != head {
				t.Fatalf("round %d: %s is %q, and %s was published", round, ref, at, head)
			}
		}
	}
	refs := []string{}
	for ref := range heads {
		f.wantOneLine(ref)
		refs = append(refs, ref)
	}
	copied := f.pull(refs...)
	for ref, head := range heads {
		if got := must.OSTree(t, "rev-parse", "--repo="+copied, ref); got != head {
			t.Errorf("pulled %s of %s, want %s", got, ref, head)
		}
	}
}

// The same behind HAProxy, with fewer clients.
func TestFleetBehindHAProxy(t *testing.T) {
	t.Parallel()
	random := site.Seed(t)
	clients, names := fleetClients(t)
	f := newFleet(t, 3, names)
	f.haproxy()
	few := clients[fleetAlone-3 : fleetAlone+3]
	f.round(0, few, random)
	for _, c := range few {
		f.wantOneLine(c.ref)
	}
	f.pull(rivalsRef)
}

// A fleetClient pushes a commit in each round.
type fleetClient struct {
	name, repo, ref string

	commit    string // of this round
	published bool   // and not refused as moved
	runs      int    // of the command, until that was known
}

func fleetClients(t *testing.T) (all []*fleetClient, names []string) {
	t.Helper()
	for i := range fleetAlone + fleetRivals {
		c := &fleetClient{name: fmt.Sprint("client", i), repo: filepath.Join(t.TempDir(), "build"), ref: fmt.Sprint("os/alone", i)}
		if i >= fleetAlone {
			c.ref = rivalsRef
		}
		must.OSTree(t, "init", "--repo="+c.repo, "--mode=archive")
		all, names = append(all, c), append(names, c.name)
	}
	return all, names
}

// round has each client make a commit on top of what its ref is, and push it, while one
// receiver is killed after some of them have ended and started after some more.
func (f *fleet) round(n int, clients []*fleetClient, random *rand.Rand) {
	f.t.Helper()
	victim := f.receivers[random.IntN(len(f.receivers))]
	killAt := random.IntN(len(clients) - 1)
	startAt := killAt + 1 + random.IntN(len(clients)-killAt-1)
	heads := map[string]string{}
	for _, c := range clients {
		heads[c.ref] = f.head(c.ref)
	}
	var ended atomic.Int32
	var g errgroup.Group
	for _, c := range clients {
		g.Go(func() error {
			defer ended.Add(1)
			return errors.Join(c.build(n, heads[c.ref]), c.push(f))
		})
	}
	atLeast := func(n int) func() bool { return func() bool { return int(ended.Load()) >= n } }
	must.Wait(f.t, fmt.Sprint(killAt, " pushes have ended"), atLeast(killAt))
	victim.Kill()
	must.Wait(f.t, fmt.Sprint(startAt, " pushes have ended"), atLeast(startAt))
	f.restart(victim)
	must.OK(f.t, g.Wait())
	f.settle()
	f.wantOutcome(n, clients)
}

// wantOutcome checks who was published, and tells how often commands were run again.
func (f *fleet) wantOutcome(round int, clients []*fleetClient) {
	f.t.Helper()
	winners, again := 0, 0
	for _, c := range clients {
		again += c.runs - 1
		switch {
		case c.ref == rivalsRef && c.published:
			winners++
		case c.ref != rivalsRef && !c.published:
			f.t.Errorf("round %d: %s was refused as moved, and it is of one client alone", round, c.ref)
		}
	}
	if winners != 1 {
		f.t.Errorf("round %d: %d of the rivals were published", round, winners)
	}
	f.t.Logf("round %d: %d commands were run again", round, again)
}

// build makes the commit of a round.
func (c *fleetClient) build(round int, parent string) (err error) {
	tree := filepath.Join(filepath.Dir(c.repo), "tree")
	for _, name := range []string{"same", fmt.Sprint("of-round-", round)} {
		if err := site.WriteFile(filepath.Join(tree, name), []byte(c.name+" "+name+"\n"), 0o644); err != nil {
			return err
		}
	}
	args := append([]string{"commit", "--fsync=false", "--repo=" + c.repo, "--branch=" + c.ref, "--tree=dir=" + tree}, site.Canonical...)
	if parent == "" {
		parent = "none"
	}
	c.commit, err = site.OSTree(append(args, "--parent="+parent)...)
	return err
}

// mostRuns is how often a client runs its command until it knows the outcome. Once for
// each time that its receiver is killed or comes back, and nginx leads it elsewhere, is
// enough.
const mostRuns = 6

// push pushes the commit until it is published, or refused as moved.
func (c *fleetClient) push(f *fleet) error {
	var all []string
	for c.runs = 1; c.runs <= mostRuns; c.runs++ {
		e, err := site.Ran(f.command(c.name, "push", "--json", "--repo", c.repo, "--branch", c.ref))
		if err != nil {
			return err
		}
		var r push.Result
		if err := json.Unmarshal([]byte(e.Stdout), &r); err != nil {
			return fmt.Errorf("%w\n%s", err, e.Stderr)
		}
		moved := r.ErrorCode == wire.RefMoved || r.ErrorCode == wire.NotFastForward
		if c.published = e.Exit == 0; c.published || moved {
			return nil
		}
		all = append(all, fmt.Sprintf("exit code %d, %s: %s", e.Exit, r.ErrorCode, e.Stderr))
	}
	return fmt.Errorf("%s ran its command %d times, and is neither published nor refused as moved: %q", c.name, mostRuns, all)
}
