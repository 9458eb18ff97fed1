// SPDX-License-Identifier: AGPL-3.0-or-later

package publish_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/bucket"
	"github.com/lirios/ostree-upload/internal/mirror"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/token"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/must"
	ts "github.com/lirios/ostree-upload/test/server"
	"github.com/lirios/ostree-upload/test/store"
)

// behind starts a server of a bucket, which it reaches through a proxy.
func behind(t *testing.T, change ...func(*bucket.Config)) (*ts.Server, *store.Proxy) {
	t.Helper()
	store.SetCredentials(t)
	p := store.NewProxy(t, store.Fake(t, store.FakeOptions{}))
	return ts.StartAt(t, p.URL, store.FakeBucket, change...), p
}

// sent opens a session for refs, and sends all objects of their commits that it lacks.
func sent(t *testing.T, client *ts.Client, repo string, refs ...wire.Ref) wire.Session {
	t.Helper()
	session := client.Open(refs...)
	var commits []ostree.Checksum
	for _, r := range refs {
		if r.New != "" {
			commits = append(commits, parse(t, r.New))
		}
	}
	if lacking := client.Negotiate(session.ID, ts.Objects(t, repo, commits...)...); len(lacking) > 0 {
		client.Upload(session.ID, "all", ts.Pack(t, repo, lacking...))
	}
	return session
}

// What somebody took out of the bucket is noticed before a ref names it, and sent again.
func TestLostInBucket(t *testing.T) {
	repo, c := build(t, "one", "two")
	s := ts.Start(t, ts.InBucket)
	client := s.Client(s.Token)
	want(t, client.Push(repo, wire.Ref{Ref: "x", New: c[0].String()}), wire.Published, "", "")
	file, tree := object(t, repo, c[0], ostree.File, c[1]), object(t, repo, c[0], ostree.DirTree, c[1])
	for _, n := range []ostree.Name{file, tree} {
		s.Lose(n)
		must.OK(t, os.Remove(filepath.Join(s.Store.StagedPath(), "objects", n.Path())))
	}
	session := sent(t, client, repo, wire.Ref{Ref: "x", Old: c[0].String(), New: c[1].String()})
	got := client.Finalize(session.ID)
	want(t, got, wire.Open, wire.MissingObjects, "2 objects are missing")
	lacking := client.Negotiate(session.ID, ts.Objects(t, repo, c[1])...)
	if !slices.Contains(lacking, file) || !slices.Contains(lacking, tree) || len(lacking) != 2 {
		t.Fatalf("asked for %v", lacking)
	}
	client.Upload(session.ID, "again", ts.Pack(t, repo, lacking...))
	want(t, client.Finalize(session.ID), wire.Published, "", "")
}

// A publish whose requests fail, or whose answers are lost or do not come, is published
// all the same.
func TestRequestsOfPublishFail(t *testing.T) {
	repo, c := build(t, "one", "two")
	for _, m := range mishaps(t, repo, c, append(slices.Clone(store.Passing), store.HangsAfter)) {
		t.Run(m.String(), func(t *testing.T) {
			s, p := behind(t, func(b *bucket.Config) { b.Stall = 5 * time.Second })
			s.MakeSummary()
			session := sent(t, s.Client(s.Token), repo, two(c)...)
			p.At(m.n, m.fault)
			want(t, s.Client(s.Token).Finalize(session.ID), wire.Published, "", "")
			p.Play(nil)
			checkPublished(t, s, two(c)...)
		})
	}
}

// two are the refs of the publish whose requests are played.
func two(c []ostree.Checksum) []wire.Ref {
	return []wire.Ref{{Ref: "a", New: c[0].String()}, {Ref: "b/c", New: c[1].String()}}
}

// A mishap is a request of that publish, by its number, and what becomes of it.
type mishap struct {
	n     int
	fault *store.Fault
}

func (m mishap) String() string { return fmt.Sprint(m.n, " ", m.fault) }

// mishaps are all requests of that publish with all of these faults, if the environment
// has CRASH=full, else some of them, spread evenly.
func mishaps(t *testing.T, repo string, c []ostree.Checksum, faults []*store.Fault) (chosen []mishap) {
	t.Helper()
	s, p := behind(t)
	s.MakeSummary()
	session := sent(t, s.Client(s.Token), repo, two(c)...)
	p.Play(nil)
	want(t, s.Client(s.Token).Finalize(session.ID), wire.Published, "", "")
	requests := len(p.Requests())
	t.Logf("%d requests: %v", requests, p.Counts())
	all := requests * len(faults)
	step := max(1, float64(all)/15)
	if os.Getenv("CRASH") == "full" {
		step = 1
	}
	for at := step / 2; int(at) < all; at += step {
		chosen = append(chosen, mishap{int(at)/len(faults) + 1, faults[int(at)%len(faults)]})
	}
	return chosen
}

// checkPublished checks that refs are where they were moved to, also in the summary.
func checkPublished(t *testing.T, s *ts.Server, refs ...wire.Ref) {
	t.Helper()
	summary := must.OSTree(t, "summary", "--view", "--repo="+s.Local())
	for _, r := range refs {
		if s.Ref(r.Ref) != r.New {
			t.Errorf("%s is at %q", r.Ref, s.Ref(r.Ref))
		}
		if !strings.Contains(summary, "* "+r.Ref+"\n") || !strings.Contains(summary, r.New) {
			t.Errorf("%s is not in the summary:\n%s", r.Ref, summary)
		}
	}
}

// A server that is gone at any request of a publish, before the request or after its
// effect, finishes what it had begun when it comes back, or the session is open again.
// Meanwhile no ref names what is not there, and afterwards nothing is left over.
func TestStoppedAtEachRequest(t *testing.T) {
	repo, c := build(t, "one", "two")
	for _, m := range mishaps(t, repo, c, []*store.Fault{store.LostBefore, store.LostAfter}) {
		t.Run(m.String(), func(t *testing.T) {
			s, p := behind(t)
			s.MakeSummary()
			session := sent(t, s.Client(s.Token), repo, two(c)...)
			stopAt(t, s, p, m, session.ID)
			must.Run(t, "ostree", "fsck", "--repo="+s.Local())
			s.Run()
			client := s.Client(s.Token)
			if client.Session(session.ID).State != wire.Published {
				want(t, client.Finalize(session.ID), wire.Published, "", "")
			}
			must.Wait(t, "what follows the publish is done", func() bool {
				session := client.Session(session.ID)
				return len(session.Following()) == 0
			})
			s.Stop() // after which nothing is under way
			checkPublished(t, s, two(c)...)
			if left, err := filepath.Glob(filepath.Join(s.Local(), ".ostree-upload/*/*")); err != nil || len(left) > 0 {
				t.Errorf("left over: %v, %v", left, err)
			}
			s.Run()
		})
	}
}

// stopAt finalizes a session, and stops the server when it comes to a request, from which
// on none gets through. Afterwards the store is there again.
func stopAt(t *testing.T, s *ts.Server, p *store.Proxy, m mishap, id string) {
	t.Helper()
	reached := make(chan struct{})
	p.Play(func(r store.Request) *store.Fault {
		switch {
		case r.N < m.n:
			return nil
		case r.N == m.n:
			close(reached)
			return m.fault
		}
		return store.LostBefore
	})
	client := s.Client(s.Token)
	client.Want(202, "POST", "/api/v1/sessions/"+id+"/finalize", nil)
	must.Wait(t, "the publish comes to its request or its end", func() bool {
		select {
		case <-reached:
			return true
		default:
			return client.Session(id).State == wire.Published // with fewer requests this time
		}
	})
	s.Stop()
	p.Play(nil)
}

// While the store is down, pushes go on into the staging, and their outcome waits.
func TestStoreDown(t *testing.T) {
	repo, c := build(t, "one", "two")
	s, p := behind(t)
	client := s.Client(s.Token)
	want(t, client.Push(repo, wire.Ref{Ref: "x", New: c[0].String()}), wire.Published, "", "")
	p.Down()
	session := sent(t, client, repo, wire.Ref{Ref: "x", Old: c[0].String(), New: c[1].String()})
	client.Want(202, "POST", "/api/v1/sessions/"+session.ID+"/finalize", nil)
	must.Wait(t, "the session says what it waits for", func() bool {
		return strings.Contains(client.Session(session.ID).Detail, "waits for the object store")
	})
	p.Play(nil)
	want(t, client.Settled(session.ID), wire.Published, "", "")
	if s.Ref("x") != c[1].String() {
		t.Errorf("x is at %s", s.Ref("x"))
	}
}

// The store may be down when the server starts, if it was there at an earlier start.
func TestStartWithoutStore(t *testing.T) {
	repo, c := build(t, "one")
	s, p := behind(t)
	s.Stop()
	p.Down()
	s.Run()
	client := s.Client(s.Token)
	session := sent(t, client, repo, wire.Ref{Ref: "x", New: c[0].String()})
	p.Play(nil)
	want(t, client.Finalize(session.ID), wire.Published, "", "")
}

// Of servers that share a bucket one wins each ref, and none loses another's ref in the
// summary.
func TestServersShareBucket(t *testing.T) {
	repo, c := build(t, "one", "two", "three")
	store.SetCredentials(t)
	url := store.Fake(t, store.FakeOptions{})
	servers := []*ts.Server{ts.StartAt(t, url, store.FakeBucket), ts.StartAt(t, url, store.FakeBucket)}
	servers[0].MakeSummary()
	var sessions [2][3]wire.Session
	for i, s := range servers {
		for j := range sessions[i] { // the last one is of the same ref
			ref := []string{fmt.Sprintf("r%d/a", i), fmt.Sprintf("r%d/b", i), "shared"}[j]
			sessions[i][j] = sent(t, s.Client(s.Token), repo, wire.Ref{Ref: ref, New: c[(i+j)%3].String()})
		}
	}
	var wg sync.WaitGroup
	for i, s := range servers {
		for j := range sessions[i] {
			client := s.Client(s.Token).In(t)
			wg.Go(func() { sessions[i][j] = client.Finalize(sessions[i][j].ID) })
		}
	}
	wg.Wait()
	won, lost := sessions[0][2], sessions[1][2]
	if won.State != wire.Published {
		won, lost = lost, won
	}
	want(t, won, wire.Published, "", "")
	want(t, lost, wire.Failed, wire.RefMoved, "ref shared is at "+won.Refs[0].New)
	for i := range servers {
		for _, session := range sessions[i][:2] {
			want(t, session, wire.Published, "", "")
			checkPublished(t, servers[i], session.Refs...)
		}
	}
	checkPublished(t, servers[0], won.Refs...)
	// What the other one published is built upon.
	next := wire.Ref{Ref: "r0/a", Old: c[0].String(), New: c[1].String()}
	want(t, servers[1].Client(servers[1].Token).Push(repo, next), wire.Published, "", "")
}

// If somebody else moves one of several refs while they move, all of them stay where they
// were.
func TestSeveralRefsMoveTogether(t *testing.T) {
	repo, c := build(t, "one", "two", "three")
	s, p := behind(t)
	client := s.Client(s.Token)
	for _, ref := range []string{"a", "b"} {
		want(t, client.Push(repo, wire.Ref{Ref: ref, New: c[0].String()}), wire.Published, "", "")
	}
	want(t, client.Push(repo, wire.Ref{Ref: "other", New: c[2].String()}), wire.Published, "", "")
	session := sent(t, client, repo, wire.Ref{Ref: "a", Old: c[0].String(), New: c[1].String()},
		wire.Ref{Ref: "b", Old: c[0].String(), New: c[1].String()}, wire.Ref{Ref: "new", New: c[1].String()})
	var once sync.Once
	// The move of a has its effect, and its answer is lost when that of b has failed.
	moved, answered, effect, failed := false, false, make(chan struct{}), make(chan struct{})
	p.Play(func(r store.Request) *store.Fault {
		isB := strings.HasSuffix(r.Key, mirror.RefKey("b"))
		switch {
		case r.Kind == "PutObject" && strings.HasSuffix(r.Key, mirror.RefKey("a")) && !answered:
			answered = true
			return store.After(func() {
				close(effect)
				<-failed
			})
		case r.Kind == "GetObject" && isB && moved:
			once.Do(func() { close(failed) })
			return nil
		case r.Kind != "PutObject" || !isB || moved:
			return nil
		}
		moved = true
		return store.Before(func() {
			<-effect
			if _, err := s.Bucket().Put(t.Context(), mirror.RefKey("b"), []byte(c[2].String()+"\n")); err != nil {
				t.Error(err)
			}
		})
	})
	got := client.Finalize(session.ID)
	p.Play(nil)
	want(t, got, wire.Failed, wire.RefMoved, "ref b is at "+c[2].String())
	if s.Ref("a") != c[0].String() || s.Ref("new") != "" {
		t.Errorf("a is at %q, new at %q", s.Ref("a"), s.Ref("new"))
	}
}

// What is published is pulled by ostree from the bucket itself.
func TestPullFromBucket(t *testing.T) {
	repo, c := build(t, "one", "two")
	store.SetCredentials(t)
	url := store.Fake(t, store.FakeOptions{})
	s := ts.StartAt(t, url, store.FakeBucket)
	s.MakeSummary()
	for i := range c {
		r := wire.Ref{Ref: "os/x", New: c[i].String()}
		if i > 0 {
			r.Old = c[i-1].String()
		}
		want(t, s.Client(s.Token).Push(repo, r), wire.Published, "", "")
	}
	to := filepath.Join(t.TempDir(), "pulled")
	must.OSTree(t, "init", "--repo="+to, "--mode=archive")
	must.OSTree(t, "remote", "add", "--repo="+to, "--no-gpg-verify", "origin", fmt.Sprintf("%s/%s/%s", url, store.FakeBucket, ts.Prefix))
	must.OSTree(t, "pull", "--repo="+to, "--mirror", "origin")
	if got := must.OSTree(t, "rev-parse", "--repo="+to, "os/x"); got != c[1].String() {
		t.Errorf("pulled %s", got)
	}
	must.OSTree(t, "fsck", "--repo="+to)
}

// An object of the bucket that is not as long as it should be counts for nothing: it is
// overwritten before a ref names it.
func TestCutOffInBucket(t *testing.T) {
	repo, c := build(t, "one", "two")
	s := ts.Start(t, ts.InBucket)
	for i, n := range ts.Objects(t, repo, c...) {
		_, err := s.Bucket().Put(t.Context(), mirror.Key(n), make([]byte, i%2*3))
		must.OK(t, err)
	}
	for i, name := range []string{"x", "y"} {
		want(t, s.Client(s.Token).Push(repo, wire.Ref{Ref: name, New: c[i].String()}), wire.Published, "", "")
	}
	must.Run(t, "ostree", "fsck", "--repo="+s.Local())
}

// A session that brings nothing may be for what another server has brought, of which this
// one knows nothing. What is gone is noticed there, too.
func TestPromoteOfAnotherServers(t *testing.T) {
	repo, c := build(t, "one", "two")
	store.SetCredentials(t)
	url := store.Fake(t, store.FakeOptions{})
	one, two := ts.StartAt(t, url, store.FakeBucket), ts.StartAt(t, url, store.FakeBucket)
	want(t, one.Client(one.Token).Push(repo, wire.Ref{Ref: "x", New: c[0].String()}), wire.Published, "", "")
	release := two.Client(two.AddToken(token.Options{Name: "release", Scopes: []string{token.Promote}}))
	want(t, release.Promote(false, wire.Ref{Ref: "y", New: c[0].String()}), wire.Published, "", "")
	want(t, one.Client(one.Token).Push(repo, wire.Ref{Ref: "x", Old: c[0].String(), New: c[1].String()}), wire.Published, "", "")
	lost := object(t, repo, c[0], ostree.File, c[1])
	body, _, err := one.Bucket().Get(t.Context(), mirror.Key(lost), 1<<20)
	must.OK(t, err)
	one.Lose(lost)
	got := release.Promote(false, wire.Ref{Ref: "y", Old: c[0].String(), New: c[1].String()})
	want(t, got, wire.Failed, wire.MissingObjects, "one of them "+lost.String())
	if two.Ref("y") != c[0].String() {
		t.Errorf("y is at %s", two.Ref("y"))
	}
	_, err = one.Bucket().Put(t.Context(), mirror.Key(lost), body) // the servers' end looks at all
	must.OK(t, err)
}

// What another server has published is not sent again.
func TestLearntFromOtherServer(t *testing.T) {
	repo, c := build(t, "one", "two")
	store.SetCredentials(t)
	url := store.Fake(t, store.FakeOptions{})
	one, two := ts.StartAt(t, url, store.FakeBucket), ts.StartAt(t, url, store.FakeBucket)
	want(t, one.Client(one.Token).Push(repo, wire.Ref{Ref: "x", New: c[0].String()}), wire.Published, "", "")
	client := two.Client(two.Token)
	must.Wait(t, "the second server knows what is there", func() bool {
		client.Want(200, "GET", "/api/v1/refs", nil)
		session := client.Open(wire.Ref{Ref: "y", New: c[0].String()})
		defer client.Want(200, "DELETE", "/api/v1/sessions/"+session.ID, nil)
		return len(client.Negotiate(session.ID, ts.Objects(t, repo, c[0])...)) == 0
	})
	want(t, client.Push(repo, wire.Ref{Ref: "x", Old: c[0].String(), New: c[1].String()}), wire.Published, "", "")
}

// Nothing is published while the bucket is pruned: the session says so, and goes on then.
func TestPublishWaitsForPrune(t *testing.T) {
	repo, c := build(t, "one")
	s := ts.Start(t, ts.InBucket)
	client := s.Client(s.Token)
	const lease = ".ostree-upload/prune"
	_, err := s.Bucket().Put(t.Context(), lease, []byte(`{"seconds": 3600}`))
	must.OK(t, err)
	session := sent(t, client, repo, wire.Ref{Ref: "x", New: c[0].String()})
	client.Want(202, "POST", "/api/v1/sessions/"+session.ID+"/finalize", nil)
	must.Wait(t, "the session says what it waits for", func() bool {
		return strings.Contains(client.Session(session.ID).Detail, "waits for the end of a prune")
	})
	if s.Ref("x") != "" {
		t.Error("the ref has moved")
	}
	must.OK(t, s.Bucket().Delete(t.Context(), lease, ""))
	want(t, client.Settled(session.ID), wire.Published, "", "")
}
