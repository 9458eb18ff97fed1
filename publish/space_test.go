// SPDX-License-Identifier: AGPL-3.0-or-later

package publish_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/test/must"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
	ts "github.com/lirios/ostree-upload/test/server"
)

// What the repository's own settings leave free is kept before the first byte of an
// upload, and by a publish before anything changes, also where objects are linked;
// the answer names the setting. What brings no content is let through.
func TestMinFreeSpace(t *testing.T) {
	const setting = "core.min-free-space-percent"
	for _, mode := range []string{"archive", "bare-user"} {
		t.Run(mode, func(t *testing.T) {
			repo, c := build(t, "one", "two")
			s := ts.Start(t, mode)
			leave := func(percent string) {
				must.OSTree(t, "config", "--repo="+s.Repo, "set", setting, percent)
			}
			client := s.Client(s.Token)
			session := client.Open(wire.Ref{Ref: "x", New: c[0].String()})
			pack := ts.Pack(t, repo, client.Negotiate(session.ID, ts.Objects(t, repo, c[0])...)...)
			leave("99")
			a := client.Create(len(pack), ts.Metadata("session", session.ID, "pack", "all"))
			wantProblem(t, a, wire.InsufficientStorage, setting+"=99")
			leave("0")
			client.Upload(session.ID, "all", pack)
			leave("99")
			want(t, client.Finalize(session.ID), wire.Open, wire.InsufficientStorage, setting+"=99")
			if has(t, s.Repo, c[0]) {
				t.Error("the repository has the commit")
			}
			leave("0")
			want(t, client.Finalize(session.ID), wire.Published, "", "")
			leave("99")
			again := client.Open(wire.Ref{Ref: "y", New: c[0].String()})
			want(t, client.Finalize(again.ID), wire.Published, "", "")
		})
	}
}

func has(t *testing.T, path string, commit ostree.Checksum) bool {
	t.Helper()
	repo, err := ostree.OpenRepo(path)
	must.OK(t, err)
	there, err := repo.Has(ostree.Name{Checksum: commit, Type: ostree.CommitObject})
	must.OK(t, err)
	return there
}

func wantProblem(t *testing.T, a ts.Answer, code, words string) {
	t.Helper()
	p := a.Problem(t)
	if p.Code() != code || !strings.Contains(p.Detail, words) || a.Status == http.StatusCreated {
		t.Errorf("%d, %s: %s; want %s, %q", a.Status, p.Code(), p.Detail, code, words)
	}
}
