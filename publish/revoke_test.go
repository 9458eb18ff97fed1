// SPDX-License-Identifier: AGPL-3.0-or-later

package publish_test

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/token"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/must"
	ts "github.com/lirios/ostree-upload/test/server"
)

// asks is how often a publish asks what the token may: whose the detached metadata is,
// and before it changes anything, before that metadata, and before the first ref moves.
const asks = 4

// lose is how a token loses its right.
var lose = map[string]struct {
	change func(*token.Token) *token.Token
	detail string
}{
	"taken away": {func(*token.Token) *token.Token { return nil }, "token ci was taken away or has expired"},
	"narrowed": {func(t *token.Token) *token.Token {
		n := *t
		n.Refs = &[]string{"first"}
		return &n
	}, "token ci may not push ref second"},
	"no scope": {func(t *token.Token) *token.Token {
		n := *t
		n.Scopes = []string{token.Sessions}
		return &n
	}, "token ci may not push"},
}

// A token that loses its right at any moment of a publish, until its first ref moves,
// publishes nothing: no ref, and no detached metadata unless that was just written, for
// the ref to be moved. Its session is open again, and
// is published once the token has its right back.
func TestTokenLosesItsRight(t *testing.T) { onBoth(t, testTokenLosesItsRight) }

func testTokenLosesItsRight(t *testing.T, kind string) {
	repo, c := build(t, "one", "two")
	t.Setenv("OSTREE_DUMMY_SIGN_ENABLED", "1")
	must.OSTree(t, "sign", "--repo="+repo, "--sign-type=dummy", c[0].String(), "key")
	for name, how := range lose {
		for lost := range asks {
			t.Run(fmt.Sprint(name, " at question ", lost+1), func(t *testing.T) {
				s := ts.Start(t, kind)
				client := s.Client(s.Token)
				asked := 0
				s.Publisher.AskToken(func(name string) *token.Token {
					if asked++; asked <= lost {
						return tokenOf(s, name)
					}
					return how.change(tokenOf(s, name))
				})
				refs := []wire.Ref{{Ref: "first", New: c[0].String()}, {Ref: "second", New: c[1].String()}}
				session := client.Open(refs...)
				client.Upload(session.ID, "all", ts.Pack(t, repo, client.Negotiate(session.ID, ts.Objects(t, repo, c...)...)...))
				want(t, client.Finalize(session.ID), wire.Open, wire.Forbidden, how.detail)
				if asked <= lost {
					t.Errorf("asked %d times only", asked)
				}
				if s.Ref("first") != "" || s.Ref("second") != "" {
					t.Error("a ref has moved")
				}
				if found, _ := filepath.Glob(filepath.Join(s.Local(), "objects/*/*.commitmeta")); len(found) > 0 && lost < asks-1 {
					t.Errorf("detached metadata is there: %v", found)
				}
				s.Publisher.AskToken(func(name string) *token.Token { return tokenOf(s, name) })
				want(t, client.Finalize(session.ID), wire.Published, "", "")
			})
		}
	}
}

// Once a ref has moved, the others follow, whoever may what: refs of a session move
// together.
func TestTokenLosesItsRightTooLate(t *testing.T) { onBoth(t, testTokenLosesItsRightTooLate) }

func testTokenLosesItsRightTooLate(t *testing.T, kind string) {
	repo, c := build(t, "one", "two")
	s := ts.Start(t, kind)
	client := s.Client(s.Token)
	asked := 0
	s.Publisher.AskToken(func(name string) *token.Token {
		if asked++; asked == 2 { // as a start finds it after a crash between two refs
			s.SetRef("first", c[0].String())
		}
		return tokenOf(s, name)
	})
	session := client.Open(wire.Ref{Ref: "first", New: c[0].String()}, wire.Ref{Ref: "second", New: c[1].String()})
	client.Upload(session.ID, "all", ts.Pack(t, repo, client.Negotiate(session.ID, ts.Objects(t, repo, c...)...)...))
	want(t, client.Finalize(session.ID), wire.Published, "", "")
	if asked != 2 {
		t.Errorf("asked %d times: a ref had moved", asked)
	}
}

// tokenOf is the token of a name as the server has it.
func tokenOf(s *ts.Server, name string) (found *token.Token) {
	s.Change(func(c *config.Config) {
		for i := range c.Tokens {
			if c.Tokens[i].Name == name {
				found = &c.Tokens[i]
			}
		}
	})
	return found
}
