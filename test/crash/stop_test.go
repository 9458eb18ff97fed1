// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package crash

import (
	"context"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/lirios/ostree-upload/internal/push"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/link"
	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/site"
)

// SIGTERM at any moment of a push: the server exits with 0, there is nothing to
// repair, and the push goes on with the next server. What was complete is not
// sent again.
func TestStopAtAnyMoment(t *testing.T) {
	t.Parallel()
	for name, when := range map[string]func(*stopped){
		"first upload": func(c *stopped) { c.inUpload(c.Payload / 10) },
		"uploads":      func(c *stopped) { c.inUpload(c.Payload / 2) },
		"last ingest":  func(c *stopped) { c.inUpload(c.Payload) },
		"verifying":    func(c *stopped) { c.inSync(wire.Verifying) },
		"publishing":   func(c *stopped) { c.inSync(wire.Publishing) },
		"waiting for a lock": func(c *stopped) {
			defer site.LockRepository(c.T, c.s.Prod)()
			c.inState(wire.Verifying)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := &stopped{Twin: site.NewTwin(t, 300), s: site.New(t)}
			c.Next()
			c.l = c.s.Link()
			wait := site.Background(t, c.s.Command("push", "--json", "--repo", c.Repo, "--jobs", "2", "--retry-for", "0s"))
			ctx, cancel := context.WithCancel(t.Context())
			c.under, c.ended = ctx, make(chan site.Ending, 1)
			go func() {
				c.ended <- wait()
				cancel()
			}()
			when(c)
			c.goesOn()
		})
	}
}

// A stopped site and the push that goes to it.
type stopped struct {
	*site.Twin
	s     *site.Site
	l     *link.Proxy
	under context.Context // until the push ends
	ended chan site.Ending
}

// inUpload stops the server when n bytes have arrived.
func (c *stopped) inUpload(n int64) {
	c.T.Helper()
	c.l.At(n, func() { c.s.Server.Process.Signal(syscall.SIGTERM) })
	must.OK(c.T, c.s.Server.Wait())
}

// inSync stops the server when the session is in a state whose syncs take long.
func (c *stopped) inSync(state string) {
	c.T.Helper()
	if _, err := exec.LookPath("strace"); err != nil {
		c.T.Skip("strace is not installed")
	}
	tracer := site.Attach(c.T, c.s.Server.Process.Pid, site.Injection{Call: "syncfs", Fault: "delay_enter=2000000"}) // microseconds
	c.inState(state)
	tracer.Wait()
}

// inState stops the server when the session is in a state that lasts.
func (c *stopped) inState(state string) {
	c.T.Helper()
	api := c.s.API()
	site.UntilState(c.under, api, state)
	all, err := api.Sessions(c.T.Context(), "")
	must.OK(c.T, err)
	if len(all) != 1 || all[0].State != state {
		c.T.Errorf("the signal does not fall into %s: %+v", state, all)
	}
	must.OK(c.T, c.s.Server.Stop())
}

// goesOn checks what the stop left, starts the server and pushes on.
func (c *stopped) goesOn() {
	c.T.Helper()
	if notes := c.Sound(c.s, "stopped"); site.LeftBehind(notes) {
		c.T.Errorf("there is something left to do: %s", notes)
	}
	e := <-c.ended
	var id string
	if e.Exit != 0 { // else it heard of the end
		id = e.Must(c.T, push.ExitForNow).Result(c.T).Session.ID
	}
	c.s.Restart(c.l)
	if strings.Contains(c.s.Server.Log.String(), "unclean") {
		c.T.Error("the stop was unclean")
	}
	if id != "" {
		c.s.Push(&c.Build, "--resume", id, "--jobs", "2")
	}
	c.Arrived(c.s)
	site.SentOnce(c.T, c.l, &c.Build)
}
