// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/client"
	"github.com/lirios/ostree-upload/internal/push"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/link"
)

// full tells whether crash tests run at full length: CRASH=full, as in `make crash`.
func full() bool { return os.Getenv("CRASH") == "full" }

// crashSeed draws a seed and logs it; CRASH_SEED repeats a run as far as the
// host's scheduler allows.
func crashSeed(t *testing.T) *rand.Rand {
	t.Helper()
	seed, err := strconv.ParseUint(os.Getenv("CRASH_SEED"), 10, 64)
	if err != nil {
		seed = rand.Uint64()
	}
	t.Logf("CRASH_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// The refs that a push of crash tests moves together.
var twoRefs = []string{"os/x86_64/devel", "os/x86_64/stable"}

// A twin is a build repository of which both refs move with each push, to
// commits of trees that share most.
type twin struct {
	t     *testing.T
	build // objects and payload of the last commits alone
	tree  string
	fill  func(n int) error // makes state n of the tree
	n     int
	heads [][]string // commits of twoRefs, for each push
}

// newTwin makes a twin of which each push changes that many files of 20 kB.
func newTwin(t *testing.T, files int) *twin {
	t.Helper()
	dir := t.TempDir()
	w := &twin{t: t, build: build{repo: filepath.Join(dir, "build")}, tree: filepath.Join(dir, "tree")}
	w.fill = func(n int) error { return smallTree(w.tree, files, fmt.Sprint("state ", n)) }
	return w
}

// next commits another state of the tree to both refs.
func (w *twin) next() []string {
	w.t.Helper()
	check(w.t, w.fill(w.n))
	check(w.t, writeFile(filepath.Join(w.tree, "same"), []byte("in all of them"), 0o644))
	before := objectFiles(w.t, w.repo)
	var heads []string
	for _, ref := range twoRefs {
		check(w.t, writeFile(filepath.Join(w.tree, "state"), []byte(fmt.Sprintln(ref, w.n)), 0o644))
		heads = append(heads, commitIn(w.t, w.repo, "archive", ref, w.tree))
	}
	w.n++
	w.heads = append(w.heads, heads)
	w.objects, w.payload = 0, 0
	for path, size := range objectFiles(w.t, w.repo) {
		if _, old := before[path]; !old {
			w.objects++
			w.payload += size
		}
	}
	return heads
}

// objectFiles are the sizes of a repository's objects; none if it is not there.
func objectFiles(t *testing.T, repo string) map[string]int64 {
	t.Helper()
	sizes := map[string]int64{}
	paths, err := filepath.Glob(filepath.Join(repo, "objects", "*", "*"))
	check(t, err)
	for _, path := range paths {
		st, err := os.Stat(path)
		check(t, err)
		sizes[path] = st.Size()
	}
	return sizes
}

// arrived checks that both refs are at their last commits, with all objects of
// the build repository.
func (w *twin) arrived(s *site) {
	w.t.Helper()
	for i, ref := range twoRefs {
		s.atHead(ref, w.heads[len(w.heads)-1][i])
	}
	all := build{repo: w.repo, objects: len(objectFiles(w.t, w.repo))}
	sameObjects(w.t, &all, s.prod)
}

// sound checks what no crash may break, while no server runs: check finds
// nothing, and the repository is whole.
func (w *twin) sound(s *site, when string) (notes string) {
	w.t.Helper()
	checked := s.run("check", "--repo", "prod")
	if checked.exit != 0 {
		w.t.Fatalf("%s: check exits %d:\n%s%s", when, checked.exit, checked.stdout, checked.stderr)
	}
	w.whole(s, when)
	return checked.stdout
}

// leftBehind tells whether check's notes name more than staged objects that the
// janitor has not come to yet.
func leftBehind(notes string) bool {
	for line := range strings.Lines(notes) {
		if strings.HasPrefix(line, "note:") && !strings.HasPrefix(line, "note: staged objects that no session needs: ") {
			return true
		}
	}
	return false
}

// whole checks that ostree fsck passes and that each ref names one of its
// commits, old or new, which is there and not marked as partial. The server may
// run.
func (w *twin) whole(s *site, when string) {
	w.t.Helper()
	if out, err := fsck(s.prod); err != nil {
		w.t.Fatalf("%s: ostree fsck: %v\n%s", when, err, out)
	}
	for i, ref := range twoRefs {
		b, err := os.ReadFile(filepath.Join(s.prod, "refs", "heads", ref))
		if errors.Is(err, os.ErrNotExist) && w.n == 1 {
			continue // nothing was published yet
		}
		check(w.t, err)
		c := strings.TrimSpace(string(b))
		known := c == w.heads[w.n-1][i] || w.n > 1 && c == w.heads[w.n-2][i]
		_, partial := os.Stat(partialMark(s.prod, c))
		_, missing := os.Stat(filepath.Join(s.prod, "objects", c[:2], c[2:]+".commit"))
		if !known || partial == nil || missing != nil {
			w.t.Fatalf("%s: %s names %s: of ours %v, partial %v, commit missing %v", when, ref, c, known, partial == nil, missing != nil)
		}
	}
}

// A pushRun is a push under way.
type pushRun struct {
	cmd   *exec.Cmd
	ended chan ending
}

// A crasher kills the server and the clients of one site.
type crasher struct {
	*twin
	s      *site
	l      *link.Proxy
	random *rand.Rand
	client *pushRun
	kills  map[string]int
}

// Where a kill of a crasher falls.
const (
	inUpload = "upload" // or in a state of the session
	inStart  = "start"
)

// Random kills of server and client, all through pushes of two refs of real
// files: after each kill the repository is whole, after each of the server
// everything is sound, and each push ends published.
func TestRandomKills(t *testing.T) {
	t.Parallel()
	pushes, uploads, least := 3, 2, 6
	if full() {
		pushes, uploads, least = 20, 15, 200
	}
	c := &crasher{twin: newRealTwin(t, pushes), s: newSite(t), random: crashSeed(t), kills: map[string]int{}}
	c.l = c.s.link()
	for range pushes {
		c.next()
		c.push(uploads)
		c.arrived(c.s)
	}
	n := 0
	for _, k := range c.kills {
		n += k
	}
	t.Logf("%d kills in %d pushes: %v", n, pushes, c.kills)
	if n < least {
		t.Errorf("%d kills, want %d at least", n, least)
	}
}

// push pushes the last commits, with kills all the way.
func (c *crasher) push(uploads int) {
	c.t.Helper()
	c.startClient()
	for range uploads {
		c.killInUpload(c.payload / int64(uploads+1))
	}
	for _, state := range []string{wire.Verifying, wire.Publishing, wire.Verifying, wire.Publishing} {
		c.killIn(state)
	}
	for range 5 {
		e := <-c.client.ended
		if e.exit == 0 {
			return
		}
		c.again(e)
	}
	c.t.Fatal("it does not end")
}

// startClient starts a push: a patient one, or one that gives up at once.
func (c *crasher) startClient() {
	c.t.Helper()
	patience := "5m"
	if c.random.IntN(2) == 0 {
		patience = "0s"
	}
	cmd := c.s.command("push", "--json", "--repo", c.repo, "--jobs", "2", "--retry-for", patience)
	wait := background(c.t, cmd)
	c.client = &pushRun{cmd, make(chan ending, 1)}
	go func(ended chan ending) { ended <- wait() }(c.client.ended)
}

// killInUpload kills the server or the client when up to n more bytes have
// arrived.
func (c *crasher) killInUpload(n int64) {
	c.t.Helper()
	server := c.random.IntN(2) == 0
	at := c.l.Delivered() + 1 + c.random.Int64N(n)
	reached := make(chan struct{})
	c.l.At(at, func() {
		if server {
			c.s.server.kill()
		} else {
			c.client.cmd.Process.Kill()
		}
		close(reached)
	})
	select {
	case <-reached:
		c.killed(server, inUpload)
		return
	case e := <-c.client.ended:
		c.client.ended <- e // for goOn, or for killed
	}
	c.l.At(math.MaxInt64, nil) // waits for a kill under way
	select {
	case <-reached: // a client may notice before
		c.killed(server, inUpload)
	default:
		c.goOn(<-c.client.ended)
	}
}

// killIn waits for a state of the session, then for a time drawn at random, and
// kills the server or, once in four times, the client.
func (c *crasher) killIn(state string) {
	c.t.Helper()
	ctx, cancel := context.WithCancel(c.t.Context())
	defer cancel()
	in := make(chan struct{})
	api := c.s.api()
	go func() {
		if untilState(ctx, api, state) {
			close(in)
		}
	}()
	select {
	case <-in:
	case e := <-c.client.ended:
		c.goOn(e)
		return
	}
	delay := time.Duration(c.random.Int64N(int64(60 * time.Millisecond)))
	time.Sleep(delay) // where it falls is what is drawn
	server := c.random.IntN(4) > 0
	if server {
		c.s.server.kill()
	} else {
		c.client.cmd.Process.Kill()
	}
	c.killed(server, state)
}

// goOn starts a client that gave up again; one that is done stays so.
func (c *crasher) goOn(e ending) {
	c.t.Helper()
	if e.exit == 0 {
		c.client.ended <- e // for the next one who asks
		return
	}
	c.again(e)
}

// again starts a client after one that gave up.
func (c *crasher) again(e ending) {
	c.t.Helper()
	e.must(c.t, push.ExitForNow)
	c.startClient()
}

// killed counts a kill, checks that all is sound, and has both sides go on.
func (c *crasher) killed(server bool, where string) {
	c.t.Helper()
	if !server {
		if e := <-c.client.ended; e.exit == 0 {
			c.client.ended <- e // it was done just before
			return
		}
		c.kills["client, "+where]++
		c.whole(c.s, "client killed in "+where)
		c.startClient()
		return
	}
	c.kills["server, "+where]++
	c.sound(c.s, "killed in "+where)
	if c.random.IntN(3) == 0 {
		c.killAtStart()
	}
	c.s.restart(c.l)
	select {
	case e := <-c.client.ended:
		c.goOn(e)
	default:
	}
}

// killAtStart starts a server and kills it before it says that it receives, or
// soon after.
func (c *crasher) killAtStart() {
	c.t.Helper()
	cmd := exec.Command("ostree-upload", "receive", "--address", "127.0.0.1:0", "--repo", "prod")
	cmd.Dir = c.s.dir
	check(c.t, cmd.Start())
	time.Sleep(time.Duration(c.random.Int64N(int64(150 * time.Millisecond)))) // as above
	check(c.t, cmd.Process.Kill())
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != -1 {
		c.t.Fatalf("it ended by itself: %v", err)
	}
	c.kills["server, "+inStart]++
	c.sound(c.s, "killed in "+inStart)
}

// untilState returns true when the session under way at a server is in a state,
// or beyond it, and false when ctx ends.
func untilState(ctx context.Context, c *client.Client, state string) bool {
	for ctx.Err() == nil {
		all, err := c.Sessions(ctx, "")
		if err != nil || len(all) == 0 || over(all[0].State) {
			continue // it is not opened yet
		}
		at := all[0]
		for err == nil && (at.State == wire.Open || at.State == wire.Verifying && state == wire.Publishing) {
			at, err = c.Session(ctx, at.ID, 10*time.Second)
		}
		if err == nil {
			return true
		}
	}
	return false
}

func over(state string) bool {
	return state != wire.Open && state != wire.Verifying && state != wire.Publishing
}

// api is a client of the running server, past any link.
func (s *site) api() *client.Client {
	s.t.Helper()
	c, err := client.New("http://"+s.server.address, s.token)
	check(s.t, err)
	s.t.Cleanup(c.Close)
	return c
}
