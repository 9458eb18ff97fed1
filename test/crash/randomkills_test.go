// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package crash

import (
	"context"
	"math"
	"math/rand/v2"
	"os/exec"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/push"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/link"
	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/site"
)

// A pushRun is a push under way.
type pushRun struct {
	cmd   *exec.Cmd
	ended chan site.Ending
}

// A crasher kills the server and the clients of one site.
type crasher struct {
	*site.Twin
	s      *site.Site
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
	if site.Full() {
		pushes, uploads, least = 20, 15, 200
	}
	c := &crasher{Twin: site.NewRealTwin(t, pushes), s: site.New(t), random: site.Seed(t), kills: map[string]int{}}
	c.l = c.s.Link()
	for range pushes {
		c.Next()
		c.push(uploads)
		c.Arrived(c.s)
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
	c.T.Helper()
	c.startClient()
	for range uploads {
		c.killInUpload(c.Payload / int64(uploads+1))
	}
	for _, state := range []string{wire.Verifying, wire.Publishing, wire.Verifying, wire.Publishing} {
		c.killIn(state)
	}
	for range 5 {
		e := <-c.client.ended
		if e.Exit == 0 {
			return
		}
		c.again(e)
	}
	c.T.Fatal("it does not end")
}

// startClient starts a push: a patient one, or one that gives up at once.
func (c *crasher) startClient() {
	c.T.Helper()
	patience := "5m"
	if c.random.IntN(2) == 0 {
		patience = "0s"
	}
	cmd := c.s.Command("push", "--json", "--repo", c.Repo, "--jobs", "2", "--retry-for", patience)
	wait := site.Background(c.T, cmd)
	c.client = &pushRun{cmd, make(chan site.Ending, 1)}
	go func(ended chan site.Ending) { ended <- wait() }(c.client.ended)
}

// killInUpload kills the server or the client when up to n more bytes have
// arrived.
func (c *crasher) killInUpload(n int64) {
	c.T.Helper()
	server := c.random.IntN(2) == 0
	at := c.l.Delivered() + 1 + c.random.Int64N(n)
	reached := make(chan struct{})
	c.l.At(at, func() {
		if server {
			c.s.Server.Kill()
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
	c.T.Helper()
	ctx, cancel := context.WithCancel(c.T.Context())
	defer cancel()
	in := make(chan struct{})
	api := c.s.API()
	go func() {
		if site.UntilState(ctx, api, state) {
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
		c.s.Server.Kill()
	} else {
		c.client.cmd.Process.Kill()
	}
	c.killed(server, state)
}

// goOn starts a client that gave up again; one that is done stays so.
func (c *crasher) goOn(e site.Ending) {
	c.T.Helper()
	if e.Exit == 0 {
		c.client.ended <- e // for the next one who asks
		return
	}
	c.again(e)
}

// again starts a client after one that gave up.
func (c *crasher) again(e site.Ending) {
	c.T.Helper()
	e.Must(c.T, push.ExitForNow)
	c.startClient()
}

// killed counts a kill, checks that all is sound, and has both sides go on.
func (c *crasher) killed(server bool, where string) {
	c.T.Helper()
	if !server {
		if e := <-c.client.ended; e.Exit == 0 {
			c.client.ended <- e // it was done just before
			return
		}
		c.kills["client, "+where]++
		c.Whole(c.s, "client killed in "+where)
		c.startClient()
		return
	}
	c.kills["server, "+where]++
	c.Sound(c.s, "killed in "+where)
	if c.random.IntN(3) == 0 {
		c.killAtStart()
	}
	c.s.Restart(c.l)
	select {
	case e := <-c.client.ended:
		c.goOn(e)
	default:
	}
}

// killAtStart starts a server and kills it before it says that it receives, or
// soon after.
func (c *crasher) killAtStart() {
	c.T.Helper()
	cmd := exec.Command("ostree-upload", "receive", "--address", "127.0.0.1:0", "--repo", "prod")
	cmd.Dir = c.s.Dir
	must.OK(c.T, cmd.Start())
	time.Sleep(time.Duration(c.random.Int64N(int64(150 * time.Millisecond)))) // as above
	must.OK(c.T, cmd.Process.Kill())
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != -1 {
		c.T.Fatalf("it ended by itself: %v", err)
	}
	c.kills["server, "+inStart]++
	c.Sound(c.s, "killed in "+inStart)
}
