// SPDX-License-Identifier: AGPL-3.0-or-later

package publish_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/bucket"
	"github.com/lirios/ostree-upload/internal/mirror"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/publish"
	"github.com/lirios/ostree-upload/test/must"
	ts "github.com/lirios/ostree-upload/test/server"
	"github.com/lirios/ostree-upload/test/store"
)

// contest is a bucket of two servers, of which the first has a session whose refs are moved
// by others as well. Its requests pass a proxy.
type contest struct {
	t             *testing.T
	first, second *ts.Server
	proxy         *store.Proxy
	repo          string
	c             []ostree.Checksum // that the bucket has
	session       wire.Session
	others        sync.WaitGroup // what they do before moves

	mu     sync.Mutex
	faults map[string]func(write int, writes bool) *store.Fault // of requests for refs
	writes map[string]int                                       // how many there were
	stop   int                                                  // the request from which on none is answered; 0: none
	last   *store.Fault                                         // what happens to that one
	moving [2]int                                               // the first and the last request while refs moved
}

// newContest has the refs os and apps at the first of four commits.
func newContest(t *testing.T) *contest {
	t.Helper()
	x := &contest{t: t}
	x.repo, x.c = build(t, "one", "two", "three", "four")
	store.SetCredentials(t)
	url := store.Fake(t, store.FakeOptions{})
	x.proxy = store.NewProxy(t, url)
	x.first, x.second = ts.StartAt(t, x.proxy.URL, store.FakeBucket), ts.StartAt(t, url, store.FakeBucket)
	for i := range x.c {
		x.push(fmt.Sprint("keep/commit-", i), "", x.at(i))
	}
	x.push("os", "", x.at(0))
	x.push("apps", "", x.at(0))
	x.clear()
	return x
}

func (x *contest) at(i int) string { return x.c[i].String() }

// push publishes at the second server.
func (x *contest) push(ref, from, to string) {
	x.t.Helper()
	want(x.t, x.second.Client(x.second.Token).Push(x.repo, wire.Ref{Ref: ref, Old: from, New: to}), wire.Published, "", "")
}

func (x *contest) client() *ts.Client { return x.first.Client(x.first.Admin) }

// begin has a session of the first server be published.
func (x *contest) begin(refs ...wire.Ref) {
	x.t.Helper()
	x.session = sent(x.t, x.client(), x.repo, refs...)
	x.proxy.Play(x.meet)
	x.client().Want(202, "POST", "/api/v1/sessions/"+x.session.ID+"/finalize", nil)
}

// clear forgets what was to happen to requests.
func (x *contest) clear() {
	x.faults, x.writes = map[string]func(int, bool) *store.Fault{}, map[string]int{}
}

// meet tells what happens to a request of the first server.
func (x *contest) meet(r store.Request) *store.Fault {
	_, ref, _ := strings.Cut(r.Key, "/refs/heads/")
	x.mu.Lock()
	defer x.mu.Unlock()
	writes := r.Kind == "PutObject" || r.Kind == "DeleteObject"
	if x.moving[1] = r.N; x.moving[0] == 0 && writes && ref != "" {
		x.moving[0] = r.N
	}
	switch {
	case x.stop > 0 && r.N == x.stop:
		return x.last
	case x.stop > 0 && r.N > x.stop:
		return store.LostBefore
	case x.faults[ref] == nil:
		return nil
	}
	if writes {
		x.writes[ref]++
	}
	return x.faults[ref](x.writes[ref], writes)
}

// mute has the first move of a ref have its effect or not, and nothing be answered about
// that ref from then on. The channel is closed when that has begun.
func (x *contest) mute(ref string, effect bool) (begun chan struct{}) {
	begun = make(chan struct{})
	how := store.Before
	if effect {
		how = store.After
	}
	x.faults[ref] = func(write int, writes bool) *store.Fault {
		switch {
		case write == 0:
			return nil
		case write == 1 && writes:
			return how(func() { close(begun) })
		}
		return store.LostBefore
	}
	return begun
}

// before has something happen before the first move of a ref, which has no effect then.
func (x *contest) before(ref string, call func()) {
	x.faults[ref] = func(write int, writes bool) *store.Fault {
		if write != 1 || !writes {
			return nil
		}
		x.others.Add(1)
		return store.Before(func() {
			defer x.others.Done()
			call()
		})
	}
}

// set moves a ref as somebody else, who has to be no server for that.
func (x *contest) set(ref, commit string) {
	var err error
	if b := x.second.Bucket(); commit == "" {
		err = b.Delete(x.t.Context(), mirror.RefKey(ref), "")
	} else {
		_, err = b.Put(x.t.Context(), mirror.RefKey(ref), []byte(commit+"\n"))
	}
	if err != nil {
		x.t.Error(err)
	}
}

// isAt checks where refs are, each "NAME N" for the commit of that number, or "NAME -".
func (x *contest) isAt(refs ...string) {
	x.t.Helper()
	for _, ref := range refs {
		name, number, _ := strings.Cut(ref, " ")
		got := "-"
		for i := range x.c {
			if x.second.Ref(name) == x.at(i) {
				got = fmt.Sprint(i)
			}
		}
		if got != number {
			x.t.Errorf("%s is at %s, %q", ref, got, x.second.Ref(name))
		}
	}
}

// shows checks where the summary has refs, as isAt does.
func (x *contest) shows(refs ...string) {
	x.t.Helper()
	text, _, err := x.second.Bucket().Get(x.t.Context(), "summary", 1<<20)
	must.OK(x.t, err)
	shown, err := ostree.SummaryRefs(text)
	must.OK(x.t, err)
	for _, ref := range refs {
		name, number, _ := strings.Cut(ref, " ")
		if at := fmt.Sprint(slices.Index(x.c, shown[name])); at != number {
			x.t.Errorf("the summary has %s at %s, want %s", name, at, number)
		}
	}
}

// marks counts the publishes that are under way, as others see it.
func (x *contest) marks() (n int) {
	x.t.Helper()
	must.OK(x.t, x.second.Bucket().List(x.t.Context(), mirror.MarksPrefix, func(bucket.Entry) error {
		n++
		return nil
	}))
	return n
}

// settled is the session once it has come to its end.
func (x *contest) settled() wire.Session {
	x.t.Helper()
	s := x.client().Settled(x.session.ID)
	x.proxy.Play(nil)
	x.clear()
	if n := x.marks(); n > 0 {
		x.t.Errorf("%d marks are left over", n)
	}
	return s
}

// waits waits until the session says that it is tried again.
func (x *contest) waits() {
	x.t.Helper()
	client := x.client()
	must.Wait(x.t, "the session says that it is tried again", func() bool {
		s := client.Session(x.session.ID)
		if s.State != wire.Publishing && s.State != wire.Verifying {
			x.t.Fatalf("it is %s: %s", s.State, s.Detail)
		}
		return s.State == wire.Publishing && s.Detail != ""
	})
}

// answers has the store answer again, perhaps after a restart of the first server. What
// others have begun to do is done by then.
func (x *contest) answers(restart bool) {
	x.t.Helper()
	if restart {
		x.first.Stop()
	}
	x.proxy.Play(nil)
	x.others.Wait()
	if restart {
		x.first.Run()
	}
}

// onRestart runs a test with a server that goes on, and with one that is stopped.
func onRestart(t *testing.T, test func(t *testing.T, restart bool)) {
	for name, restart := range map[string]bool{"goes on": false, "stopped": true} {
		t.Run(name, func(t *testing.T) { test(t, restart) })
	}
}

// halfMoved has the session's move of os stay without an answer, and a rival move apps then.
func (x *contest) halfMoved() {
	begun := x.mute("os", true)
	x.before("apps", func() {
		<-begun
		x.set("apps", x.at(2))
	})
}

// Nobody knows whether os has moved when apps is refused: the session does not end before that
// is known, and then all refs are where they were.
func TestUnansweredMoveGoesBack(t *testing.T) { onRestart(t, testUnansweredMoveGoesBack) }

func testUnansweredMoveGoesBack(t *testing.T, restart bool) {
	x := newContest(t)
	x.halfMoved()
	x.begin(wire.Ref{Ref: "os", Old: x.at(0), New: x.at(1)}, wire.Ref{Ref: "apps", Old: x.at(0), New: x.at(1)}, wire.Ref{Ref: "new", New: x.at(1)})
	x.waits()
	if x.marks() != 1 {
		t.Error("while the refs are half moved, others do not see that")
	}
	x.isAt("os 1", "apps 2")
	x.answers(restart)
	want(t, x.settled(), wire.Failed, wire.RefMoved, "ref apps is at "+x.at(2))
	x.isAt("os 0", "apps 2", "new -")
}

// What others have built on cannot go back, and the session says so.
func TestBuiltUponStays(t *testing.T) {
	x := newContest(t)
	x.halfMoved()
	x.begin(wire.Ref{Ref: "os", Old: x.at(0), New: x.at(1)}, wire.Ref{Ref: "apps", Old: x.at(0), New: x.at(1)})
	x.waits()
	x.push("os", x.at(1), x.at(3))
	x.answers(false)
	want(t, x.settled(), wire.Failed, wire.RefMoved, "this push had moved os, and others have built on that")
	x.isAt("os 3", "apps 2")
}

// A ref does not go back to a commit that was pruned while the server was down.
func TestNoWayBackToPruned(t *testing.T) {
	x := newContest(t)
	x.halfMoved()
	x.begin(wire.Ref{Ref: "os", Old: x.at(0), New: x.at(1)}, wire.Ref{Ref: "apps", Old: x.at(0), New: x.at(1)})
	x.waits()
	x.first.Stop()
	x.set("keep/commit-0", "")
	must.OK(t, x.second.Bucket().Delete(t.Context(), mirror.Key(ostree.Name{Checksum: x.c[0], Type: ostree.CommitObject}), ""))
	x.proxy.Play(nil)
	x.first.Run()
	want(t, x.settled(), wire.Failed, wire.RefMoved, "this push had moved os, and others have built on that or removed the commit before")
	x.isAt("os 1", "apps 2")
}

// What another session has moved to the same commit stays.
func TestEqualMoveStays(t *testing.T) {
	x := newContest(t)
	reached, pushed := make(chan struct{}), make(chan struct{})
	x.before("os", func() {
		close(reached)
		<-pushed
	})
	x.before("apps", func() {
		<-pushed
		x.set("apps", x.at(2))
	})
	x.begin(wire.Ref{Ref: "os", Old: x.at(0), New: x.at(1)}, wire.Ref{Ref: "apps", Old: x.at(0), New: x.at(1)}, wire.Ref{Ref: "new", New: x.at(1)})
	<-reached
	x.push("os", x.at(0), x.at(1))
	close(pushed)
	want(t, x.settled(), wire.Failed, wire.RefMoved, "ref apps is at "+x.at(2))
	x.isAt("os 1", "apps 2", "new -")
}

// A deleted ref is there again if not all refs could move, unless the session had not come
// to it yet.
func TestDeletedRefComesBack(t *testing.T) {
	x := newContest(t)
	x.before("apps", func() { x.set("apps", x.at(2)) })
	x.begin(wire.Ref{Ref: "os", Old: x.at(0)}, wire.Ref{Ref: "apps", Old: x.at(0)})
	want(t, x.settled(), wire.Failed, wire.RefMoved, "ref apps is at "+x.at(2))
	x.isAt("os 0", "apps 2")
	// Another one renames apps to new at the same time.
	x.before("new", func() {
		x.set("apps", "")
		x.set("new", x.at(2))
	})
	x.begin(wire.Ref{Ref: "apps", Old: x.at(2)}, wire.Ref{Ref: "new", New: x.at(3)})
	want(t, x.settled(), wire.Failed, wire.RefMoved, "ref new is at "+x.at(2))
	x.isAt("apps -", "new 2")
	// A folder of refs has the name that was free for a moment.
	x.before("os/x", func() {
		x.set("os/x", x.at(2))
	})
	x.begin(wire.Ref{Ref: "os", Old: x.at(0)}, wire.Ref{Ref: "os/x", New: x.at(1)})
	want(t, x.settled(), wire.Failed, wire.RefMoved, "ref os/x is at "+x.at(2)+", this push expected no commit; by then this push had moved os,")
	x.isAt("os -", "os/x 2")
}

// A push whose answer was lost is published, although its ref has been moved on before that
// was known.
func TestMovedOnBeforeAnswer(t *testing.T) { onRestart(t, testMovedOnBeforeAnswer) }

func testMovedOnBeforeAnswer(t *testing.T, restart bool) {
	x := newContest(t)
	begun := x.mute("os", true)
	x.begin(wire.Ref{Ref: "os", Old: x.at(0), New: x.at(1)})
	<-begun
	x.waits()
	x.push("os", x.at(1), x.at(2))
	x.push("os", x.at(2), x.at(3))
	x.answers(restart)
	want(t, x.settled(), wire.Published, "", "")
	x.isAt("os 3")
}

// Wherever a server is stopped that moves several refs, and moves them back as another one
// has moved one of them, all of them have moved in the end or none has.
func TestAllOrNone(t *testing.T) {
	x := newContest(t)
	x.rival()
	want(t, x.settled(), wire.Failed, wire.RefMoved, "ref apps is at "+x.at(2))
	first, last := x.moving[0], x.moving[1]
	t.Logf("requests %d to %d", first, last)
	step := max(1, (last-first)/4)
	if os.Getenv("CRASH") == "full" {
		step = 1
	}
	for n := first; n <= last; n += step {
		fault := []*store.Fault{store.LostBefore, store.LostAfter}[n%2]
		t.Run(fmt.Sprint(n, " ", fault), func(t *testing.T) { testAllOrNone(newContest(t), n, fault) })
	}
}

func testAllOrNone(x *contest, n int, fault *store.Fault) {
	x.stop, x.last = n, fault
	x.rival()
	must.Wait(x.t, "the session comes to the request, or to its end", func() bool {
		return len(x.proxy.Requests()) >= n || x.client().Session(x.session.ID).State == wire.Failed
	})
	x.answers(true)
	if s := x.settled(); s.State == wire.Published {
		x.isAt("os 1", "apps 1", "new 1")
	} else {
		want(x.t, s, wire.Failed, wire.RefMoved, "ref apps is at "+x.at(2))
		x.isAt("os 0", "apps 2", "new -")
	}
}

// rival begins a session of three refs, of which somebody else moves one first.
func (x *contest) rival() {
	x.t.Helper()
	x.before("apps", func() { x.set("apps", x.at(2)) })
	x.begin(wire.Ref{Ref: "os", Old: x.at(0), New: x.at(1)}, wire.Ref{Ref: "apps", Old: x.at(0), New: x.at(1)}, wire.Ref{Ref: "new", New: x.at(1)})
}

// A publish that takes so long that a prune may not see its mark any more moves no ref, and
// begins anew.
func TestLateMove(t *testing.T) {
	later, err := publish.MoveLate(time.Now().Add(-23*time.Hour - time.Minute))
	if !later || err == nil {
		t.Errorf("it is tried again: %v, %v", later, err)
	}
}

// A push that did not move its ref is refused, also if its commit has come into the ref's
// history by another one.
func TestUnmovedIsRefused(t *testing.T) {
	x := newContest(t)
	begun := x.mute("os", false)
	x.begin(wire.Ref{Ref: "os", Old: x.at(0), New: x.at(1)})
	<-begun
	x.waits()
	x.push("os", x.at(0), x.at(2))
	x.answers(false)
	want(t, x.settled(), wire.Failed, wire.RefMoved, "ref os is at "+x.at(2))
	x.isAt("os 2")
}

// A mark that could not be removed does not hide what its session has published, when others
// move one of its refs on. The next publish of its server removes it.
func TestMarkThatStays(t *testing.T) {
	x := newContest(t)
	x.session = sent(t, x.client(), x.repo, wire.Ref{Ref: "os", Old: x.at(0), New: x.at(1)}, wire.Ref{Ref: "apps", Old: x.at(0), New: x.at(1)})
	x.proxy.Play(func(r store.Request) *store.Fault {
		if r.Kind == "DeleteObject" {
			return store.LostBefore
		}
		return nil
	})
	x.client().Want(202, "POST", "/api/v1/sessions/"+x.session.ID+"/finalize", nil)
	want(t, x.client().Settled(x.session.ID), wire.Published, "", "")
	if n := x.marks(); n != 1 {
		t.Fatalf("%d marks", n)
	}
	x.push("os", x.at(1), x.at(3))
	x.shows("os 3", "apps 1")
	x.proxy.Play(nil)
	want(t, x.client().Push(x.repo, wire.Ref{Ref: "apps", Old: x.at(1), New: x.at(2)}), wire.Published, "", "")
	if n := x.marks(); n != 0 {
		t.Errorf("after the next publish there are %d marks", n)
	}
}

// The summary that another server wrote when all refs had moved does not outlast their way
// back.
func TestSummaryGoesBack(t *testing.T) {
	x := newContest(t)
	begun := x.mute("os", true)
	x.begin(wire.Ref{Ref: "os", Old: x.at(0), New: x.at(1)}, wire.Ref{Ref: "apps", Old: x.at(0), New: x.at(1)})
	<-begun
	x.waits()
	x.push("other", "", x.at(0))
	x.shows("os 1", "apps 1")
	x.set("os", x.at(2))
	x.answers(false)
	want(t, x.settled(), wire.Failed, wire.RefMoved, "ref os is at "+x.at(2))
	x.isAt("os 2", "apps 0")
	x.shows("os 2", "apps 0")
}
