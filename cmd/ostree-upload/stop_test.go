// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package main

import (
	"context"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/lirios/ostree-upload/internal/push"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/link"
)

// SIGTERM at any moment of a push: the server exits with 0, there is nothing to
// repair, and the push goes on with the next server. What was complete is not
// sent again.
func TestStopAtAnyMoment(t *testing.T) {
	t.Parallel()
	for name, when := range map[string]func(*stopped){
		"first upload": func(c *stopped) { c.inUpload(c.payload / 10) },
		"uploads":      func(c *stopped) { c.inUpload(c.payload / 2) },
		"last ingest":  func(c *stopped) { c.inUpload(c.payload) },
		"verifying":    func(c *stopped) { c.inSync(wire.Verifying) },
		"publishing":   func(c *stopped) { c.inSync(wire.Publishing) },
		"waiting for a lock": func(c *stopped) {
			defer lockRepository(c.t, c.s.prod)()
			c.inState(wire.Verifying)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := &stopped{twin: newTwin(t, 300), s: newSite(t)}
			c.next()
			c.l = c.s.link()
			wait := background(t, c.s.command("push", "--json", "--repo", c.repo, "--jobs", "2", "--retry-for", "0s"))
			ctx, cancel := context.WithCancel(t.Context())
			c.under, c.ended = ctx, make(chan ending, 1)
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
	*twin
	s     *site
	l     *link.Proxy
	under context.Context // until the push ends
	ended chan ending
}

// inUpload stops the server when n bytes have arrived.
func (c *stopped) inUpload(n int64) {
	c.t.Helper()
	c.l.At(n, func() { c.s.server.process.Signal(syscall.SIGTERM) })
	check(c.t, c.s.server.wait())
}

// inSync stops the server when the session is in a state whose syncs take long.
func (c *stopped) inSync(state string) {
	c.t.Helper()
	if _, err := exec.LookPath("strace"); err != nil {
		c.t.Skip("strace is not installed")
	}
	tracer := attach(c.t, c.s.server.process.Pid, point{call: "syncfs", fault: "delay_enter=2000000"}) // microseconds
	c.inState(state)
	tracer.wait()
}

// inState stops the server when the session is in a state that lasts.
func (c *stopped) inState(state string) {
	c.t.Helper()
	api := c.s.api()
	untilState(c.under, api, state)
	all, err := api.Sessions(c.t.Context(), "")
	check(c.t, err)
	if len(all) != 1 || all[0].State != state {
		c.t.Errorf("the signal does not fall into %s: %+v", state, all)
	}
	check(c.t, c.s.server.stop())
}

// goesOn checks what the stop left, starts the server and pushes on.
func (c *stopped) goesOn() {
	c.t.Helper()
	if notes := c.sound(c.s, "stopped"); leftBehind(notes) {
		c.t.Errorf("there is something left to do: %s", notes)
	}
	e := <-c.ended
	var id string
	if e.exit != 0 { // else it heard of the end
		id = e.must(c.t, push.ExitForNow).result(c.t).Session.ID
	}
	c.s.restart(c.l)
	if strings.Contains(c.s.server.log.String(), "unclean") {
		c.t.Error("the stop was unclean")
	}
	if id != "" {
		c.s.push(&c.build, "--resume", id, "--jobs", "2")
	}
	c.arrived(c.s)
	sentOnce(c.t, c.l, &c.build)
}
