// SPDX-License-Identifier: AGPL-3.0-or-later

package receive_test

import (
	"testing"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/forwarded"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/must"
	ts "github.com/lirios/ostree-upload/test/server"
)

// Where a push comes from is what a trusted proxy says, and what nobody else does.
func TestRemote(t *testing.T) {
	_, commit := source(t)
	s := ts.Start(t, "archive")
	c := s.Client(s.Token)
	trust := func(names ...string) {
		proxies, err := forwarded.ParseProxies(names)
		must.OK(t, err)
		s.Change(func(c *config.Config) { c.TrustedProxies = proxies })
	}
	for _, tc := range []struct {
		trusted, header, value, want string
	}{
		{"10.0.0.0/8", "X-Forwarded-For", "203.0.113.9", "127.0.0.1"},
		{"10.0.0.0/8", "Forwarded", "for=203.0.113.9", "127.0.0.1"},
		{"127.0.0.0/8", "X-Forwarded-For", "198.51.100.1, 203.0.113.9", "203.0.113.9"},
		{"127.0.0.0/8", "Forwarded", `for="[2001:db8::7]:4711";proto=https`, "2001:db8::7"},
		{"127.0.0.0/8", "X-Forwarded-For", "what is this", "127.0.0.1"},
	} {
		trust(tc.trusted)
		session := c.Open(wire.Ref{Ref: "x", New: commit.String()})
		c.Want(202, "POST", "/api/v1/sessions/"+session.ID+"/finalize", nil, tc.header, tc.value)
		c.Wait(session.ID)
		kept, err := s.Journal.Session(session.ID)
		must.OK(t, err)
		if kept.Remote != tc.want {
			t.Errorf("%+v: %q", tc, kept.Remote)
		}
		c.Want(200, "DELETE", "/api/v1/sessions/"+session.ID, nil)
	}
}
