// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package system

import (
	"fmt"
	"math/rand/v2"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/push"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/link"
	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/site"
)

// The links of these tests do what a thin long link does, only faster: nothing
// here asserts on time, all on bytes.
var longLink = link.Faults{Rate: 20 << 20, Delay: 10 * time.Millisecond}

// overhead is what a link may deliver beside the payload where nothing is lost:
// the frames of packs, HTTP, and negotiation.
func overhead(b *site.Build) int64 { return int64(b.Objects)*128 + 64<<10 }

// delivered checks how much a link delivered for a build.
func delivered(t *testing.T, l *link.Proxy, b *site.Build, most int64) {
	t.Helper()
	extra := l.Delivered() - b.Payload
	t.Logf("%d bytes delivered for %d: %.2f%% more", l.Delivered(), b.Payload, 100*float64(extra)/float64(b.Payload))
	if extra > most {
		t.Errorf("%d bytes delivered for %d: %d more, not %d", l.Delivered(), b.Payload, extra, most)
	}
}

// On a long link that holds nothing is sent but the payload and little else:
// what is not payload is under 1%.
func TestLongLink(t *testing.T) {
	t.Parallel()
	s, b := site.New(t), site.Big(t)
	l := s.Link()
	l.Set(longLink)
	r := s.Push(b)
	site.Published(t, b, s.Prod)
	delivered(t, l, b, overhead(b))
	if r.BytesResent != 0 || r.Retries != 0 {
		t.Errorf("%d bytes resent, %d retries", r.BytesResent, r.Retries)
	}
}

// Every connection is reset after 5 MB: the push ends well without a person, and
// 2% of the payload are sent twice at most.
func TestResetEvery5MB(t *testing.T) {
	t.Parallel()
	for name, how := range map[string]link.How{"RST": link.Reset, "FIN": link.Close} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, b := site.New(t), site.Big(t)
			l := s.Link()
			faults := longLink
			faults.CutAfter, faults.CutBy = 5_000_000, how
			l.Set(faults)
			r := s.Push(b)
			site.Published(t, b, s.Prod)
			delivered(t, l, b, overhead(b)+b.Payload*2/100)
			if r.Retries == 0 {
				t.Error("it did not notice")
			}
			t.Logf("%d retries, %d bytes resent as the client counts them", r.Retries, r.BytesResent)
		})
	}
}

// Outages: all connections break and new ones are refused for a while, again and
// again. The link decides when, by the bytes that it delivered.
func TestOutages(t *testing.T) {
	t.Parallel()
	s, b := site.New(t), site.Big(t)
	l := s.Link()
	l.Set(longLink)
	const outages = 6
	down, up := make(chan bool), make(chan struct{})
	go func() { // not in the hook, which holds the link
		defer close(up)
		for range down {
			l.Refuse()
			l.Cut(link.Reset)
			untilRefused(s.URL)
			l.Accept()
			up <- struct{}{}
		}
	}()
	wait := site.Background(t, s.Command("push", "--json", "--repo", b.Repo))
	for i := range int64(outages) {
		reached := make(chan struct{})
		l.At(b.Payload*(i+1)/(outages+1), func() { close(reached) })
		<-reached
		down <- true
		<-up
	}
	close(down)
	wait().Must(t, 0)
	site.Published(t, b, s.Prod)
	// Less than what is in the air of each upload, per outage.
	delivered(t, l, b, overhead(b)+b.Payload*2/100+outages*push.DefaultJobs*64<<10)
}

// untilRefused returns when a connect to a URL's host has failed.
func untilRefused(url string) {
	for {
		conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			return
		}
		conn.Close()
	}
}

// The client is killed 20 times at random moments, and each next one goes on. A
// kill costs less than one small object for each of its connections.
func TestKilledTwentyTimes(t *testing.T) {
	t.Parallel()
	const kills, jobs = 20, 2
	s, b := site.New(t), site.Big(t)
	l := s.Link()
	args := []string{"push", "--json", "--repo", b.Repo, "--jobs", fmt.Sprint(jobs)}
	if out, err := site.RunKilled(s.Command(args...), l, rand.Int64N(b.Payload/kills)); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for range kills - 1 {
		at := l.Delivered() + 10_000 + rand.Int64N(b.Payload/kills)
		if out, err := site.RunKilled(s.Command(args...), l, at); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		s.NoRefs()
	}
	id := ""
	if open := s.Sessions(wire.Open); len(open) > 0 {
		id = open[0].ID
	}
	r := s.Push(b, "--jobs", fmt.Sprint(jobs))
	site.Published(t, b, s.Prod)
	if id != "" && (!r.Resumed || r.Session.ID != id) {
		t.Errorf("session %s, resumed %v, want %s", r.Session.ID, r.Resumed, id)
	}
	// Of each connection the object that was cut, here one of 204,000 bytes at most,
	// and negotiation, which each run repeats: 32 bytes of a checksum and some.
	const smallest, name = 204_000, 48
	delivered(t, l, b, overhead(b)+kills*(jobs*smallest+int64(b.Objects)*name))
}

// Another machine with the same commits goes on by the session's ID alone. The
// first is gone for good.
func TestResumeElsewhere(t *testing.T) {
	t.Parallel()
	s, b := site.New(t), site.Big(t)
	l := s.Link()
	if out, err := site.RunKilled(s.Command("push", "--repo", b.Repo, "--jobs", "2"), l, b.Payload*2/3); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	id := s.OpenSession().ID
	other := filepath.Join(t.TempDir(), "elsewhere")
	must.OSTree(t, "init", "--repo="+other, "--mode=archive")
	must.OSTree(t, "pull-local", "--disable-fsync", "--untrusted", "--repo="+other, b.Repo, b.Commit)
	r := s.Push(&site.Build{Repo: other}, "--resume", id, "--jobs", "2")
	site.Published(t, b, s.Prod)
	if r.Session.ID != id {
		t.Errorf("session %s, want %s", r.Session.ID, id)
	}
	site.SentOnce(t, l, b)
}

// A build repository that was pruned of other refs goes on.
func TestResumeAfterPrune(t *testing.T) {
	t.Parallel()
	s, b := site.New(t), site.Big(t)
	repo := filepath.Join(t.TempDir(), "build")
	must.OSTree(t, "init", "--repo="+repo, "--mode=archive")
	must.OSTree(t, "pull-local", "--repo="+repo, b.Repo, b.Ref)
	other := site.Small(t, "os/other", "unrelated")
	must.OSTree(t, "pull-local", "--repo="+repo, other.Repo, other.Ref)
	l := s.Link()
	if out, err := site.RunKilled(s.Command("push", "--repo", repo, "--branch", b.Ref, "--jobs", "2"), l, b.Payload/2); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	id := s.OpenSession().ID
	must.OSTree(t, "refs", "--repo="+repo, "--delete", other.Ref)
	must.OSTree(t, "prune", "--repo="+repo, "--refs-only")
	r := s.Push(&site.Build{Repo: repo})
	site.Published(t, b, s.Prod)
	if !r.Resumed || r.Session.ID != id {
		t.Errorf("session %s, resumed %v, want %s", r.Session.ID, r.Resumed, id)
	}
	site.SentOnce(t, l, b)
}

// A link that breaks, in front of a proxy that collects requests: all of a
// request that breaks off is lost, so the requests have to stay small.
func TestBreakingLinkToNginx(t *testing.T) {
	t.Parallel()
	s, b := site.New(t), site.Big(t)
	s.Nginx(collecting)
	proxy := strings.TrimPrefix(s.URL, "http://")
	l := s.Link()
	l.Target(proxy)
	faults := longLink
	faults.CutAfter, faults.CutBy = 400_000, link.Reset
	l.Set(faults)
	s.Push(b)
	site.Published(t, b, s.Prod)
	delivered(t, l, b, overhead(b)+b.Payload/4)
}

// Through a real proxy that collects requests and takes none above 1 MB: done,
// with nothing set by hand.
func TestThroughNginx(t *testing.T) {
	t.Parallel()
	s, b := site.New(t), site.Big(t)
	s.Nginx(collecting)
	r := s.Push(b)
	site.Published(t, b, s.Prod)
	// One chunk of each size of each upload that was under way is refused.
	if r.Retries > 3*push.DefaultJobs {
		t.Errorf("%d retries", r.Retries)
	}
}
