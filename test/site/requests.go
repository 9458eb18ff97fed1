// SPDX-License-Identifier: AGPL-3.0-or-later

package site

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/store"
)

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
	p.failRequests(func() {
		<-launched
		_ = server.Load().Kill() // fails where it has ended
	})
	var err error
	p.Server, err = Launch(receive("ostree-upload", p.Dir, p.env(), p.scenario.Args...))
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

// failRequests has the mishap happen to its request, if it is of one; kill kills the
// server. What the bucket has when the first ref is about to move is copied.
func (p *Play) failRequests(kill func()) {
	faults := append(slices.Clone(store.Passing), store.Before(kill).Named("kill-before"), store.After(kill).Named("kill-after"))
	copied := sync.OnceValue(func() error { return p.Bucket.copy(p.beforeMove()) })
	p.Bucket.Faults.Play(func(r store.Request) *store.Fault {
		if r.Kind == "PutObject" && strings.HasPrefix(r.Key, refsInBucket) {
			p.noError(copied())
		}
		n := 0
		if _, err := fmt.Sscanf(p.Mishap.Point, "request %d ", &n); err != nil || r.N != n {
			return nil
		}
		p.noError(os.WriteFile(p.Mishap.Record, []byte("0 "+p.Mishap.Point+"\n"), 0o600))
		return faults[slices.IndexFunc(faults, func(f *store.Fault) bool { return f.Name == p.Mishap.Effect })]
	})
}

// noError fails the test on an error, from any goroutine.
func (p *Play) noError(err error) {
	if err != nil {
		p.T.Error(err)
	}
}

const refsInBucket = store.FakeBucket + "/" + folderInBucket + "refs/heads/"

// beforeMove is where the repository is copied to when the first of its refs is about to
// be moved.
func (p *Play) beforeMove() string { return filepath.Join(p.Dir, "before-move") }

// checkBeforeMove checks that no ref of the push moved before there was all that they were
// to name.
func (p *Play) checkBeforeMove() {
	p.T.Helper()
	repo := p.beforeMove()
	if Missing(repo) {
		p.T.Fatalf("%s: no ref has moved", p.Mishap)
	}
	for i, commit := range p.Twin.Heads[p.Twin.N-1] {
		must.OK(p.T, WriteFile(filepath.Join(repo, "refs", "heads", TwoRefs[i]), []byte(commit+"\n"), 0o644))
	}
	if out, err := Fsck(repo); err != nil {
		p.T.Errorf("%s: what the refs were to name was not there yet: ostree fsck: %v\n%s", p.Mishap, err, out)
	}
}
