// SPDX-License-Identifier: AGPL-3.0-or-later

package receive_test

import (
	"slices"
	"testing"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/token"
	"github.com/lirios/ostree-upload/internal/wire"
	ts "github.com/lirios/ostree-upload/test/server"
)

// A session whose token is gone belongs to whoever may push all of it: what has arrived
// is not sent again because a token was renewed under another name. While its token is
// valid, and to a token of other refs, it does not exist.
func TestSessionOfAnEndedToken(t *testing.T) {
	repo, commit := source(t)
	s := ts.Start(t, "archive")
	old := s.Client(s.AddToken(token.Options{Name: "old"}))
	heir := s.Client(s.AddToken(token.Options{Name: "heir", Refs: []string{"x"}}))
	stranger := s.Client(s.AddToken(token.Options{Name: "stranger", Refs: []string{"y"}}))
	session := old.Open(wire.Ref{Ref: "x", New: commit.String()})
	all := ts.Objects(t, repo, commit)
	old.Negotiate(session.ID, all...)
	old.Upload(session.ID, "all", ts.Pack(t, repo, all...))

	path := "/api/v1/sessions/" + session.ID
	heir.Want(404, "GET", path, nil)
	s.Change(func(c *config.Config) {
		c.Tokens = slices.DeleteFunc(slices.Clone(c.Tokens), func(t token.Token) bool { return t.Name == "old" })
	})
	stranger.Want(404, "GET", path, nil)
	stranger.Want(404, "POST", path+"/finalize", nil)
	if lacking := heir.Negotiate(session.ID, all...); len(lacking) != 0 {
		t.Errorf("%d objects would be sent again", len(lacking))
	}
	if got := heir.Finalize(session.ID); got.State != wire.Published || got.Token != "heir" || s.Ref("x") != commit.String() {
		t.Errorf("%+v", got)
	}
}
