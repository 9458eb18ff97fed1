// SPDX-License-Identifier: AGPL-3.0-or-later

package publish_test

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/lirios/ostree-upload/test/must"

	"github.com/lirios/ostree-upload/internal/wire"
	ts "github.com/lirios/ostree-upload/test/server"
)

// A push to an alias of the repository is refused with what it points to, and the
// alias stays: when the session is opened, and when the alias was made after that.
func TestAlias(t *testing.T) {
	repo, c := build(t, "one", "two")
	s := ts.Start(t, "archive")
	client := s.Client(s.Token)
	want(t, client.Push(repo, wire.Ref{Ref: "os/39", New: c[0].String()}), wire.Published, "", "")
	late := client.Open(wire.Ref{Ref: "os/stable", New: c[1].String()})
	client.Upload(late.ID, "all", ts.Pack(t, repo, client.Negotiate(late.ID, ts.Objects(t, repo, c...)...)...))

	must.OSTree(t, "refs", "--repo="+s.Repo, "--alias", "os/39", "--create=os/stable")
	want(t, client.Finalize(late.ID), wire.Failed, wire.Policy, "os/stable is an alias of os/39")
	body := []byte(`{"refs":[{"ref":"os/stable","old":"` + c[0].String() + `","new":"` + c[1].String() + `"}]}`)
	problem := client.Want(http.StatusUnprocessableEntity, "POST", "/api/v1/sessions", body).Problem(t)
	if problem.Code() != wire.Policy || problem.Detail != "ref os/stable is an alias of os/39 in the repository" {
		t.Errorf("%s: %s", problem.Code(), problem.Detail)
	}
	if target, err := os.Readlink(filepath.Join(s.Repo, "refs/heads/os/stable")); err != nil || target != "../os/39" {
		t.Errorf("the alias is %q, %v", target, err)
	}
	if s.Ref("os/39") != c[0].String() {
		t.Errorf("os/39 is at %s", s.Ref("os/39"))
	}
}
