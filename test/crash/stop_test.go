// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package crash

import (
	"context"
	"os"
	"path/filepath"
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
	for name, moment := range map[string]struct {
		hold string // the server's point that lasts until it stops
		when func(*stopped)
	}{
		"first upload": {"", func(c *stopped) { c.inUpload(c.Payload / 10) }},
		"uploads":      {"", func(c *stopped) { c.inUpload(c.Payload / 2) }},
		"last ingest":  {"", func(c *stopped) { c.inUpload(c.Payload) }},
		"verifying":    {"syncfs staged#1", func(c *stopped) { c.inState(wire.Verifying) }},
		"publishing":   {"syncfs prod#1", func(c *stopped) { c.inState(wire.Publishing) }},
		"waiting for a lock": {"", func(c *stopped) {
			defer site.LockRepository(c.T, c.s.Prod)()
			c.inState(wire.Verifying)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := &stopped{Twin: site.NewTwin(t, 300), s: site.New(t)}
			c.Next()
			c.hold(moment.hold)
			c.l = c.s.Link()
			wait := site.Background(t, c.s.Command("push", "--json", "--repo", c.Repo, "--jobs", "2", "--retry-for", "0s"))
			ctx, cancel := context.WithCancel(t.Context())
			c.under, c.ended = ctx, make(chan site.Ending, 1)
			go func() {
				c.ended <- wait()
				cancel()
			}()
			moment.when(c)
			c.goesOn()
		})
	}
}

// A stopped site and the push that goes to it.
type stopped struct {
	*site.Twin
	s     *site.Site
	l     *link.Proxy
	held  string          // the file that lets the server go on
	under context.Context // until the push ends
	ended chan site.Ending
}

// hold has the server wait at a point, if there is one.
func (c *stopped) hold(point string) {
	c.T.Helper()
	c.held = filepath.Join(c.T.TempDir(), "go on")
	if point == "" {
		return
	}
	must.OK(c.T, c.s.Server.Stop())
	var err error
	env := append(os.Environ(), "FAULT_AT="+point, "FAULT_DO=hold", "FAULT_UNTIL="+c.held)
	c.s.Server, err = site.StartProgram(site.FaultyProgram(c.T), c.s.Dir, env, "--repo", "prod")
	must.OK(c.T, err)
}

// inUpload stops the server when n bytes have arrived.
func (c *stopped) inUpload(n int64) {
	c.T.Helper()
	c.l.At(n, func() { c.s.Server.Process.Signal(syscall.SIGTERM) })
	must.OK(c.T, c.s.Server.Wait())
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
	must.OK(c.T, c.s.Server.Process.Signal(syscall.SIGTERM))
	must.Wait(c.T, "the server knows", func() bool { return strings.Contains(c.s.Server.Log.String(), "msg=stopping") })
	must.OK(c.T, os.WriteFile(c.held, nil, 0o600))
	must.OK(c.T, c.s.Server.Wait())
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
