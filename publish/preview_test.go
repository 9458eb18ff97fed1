// SPDX-License-Identifier: AGPL-3.0-or-later

package publish_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/token"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/gpg"
	"github.com/lirios/ostree-upload/test/must"
	ts "github.com/lirios/ostree-upload/test/server"
)

// client makes a repository that pulls from an address, with what is said of the remote.
func client(t *testing.T, url string, remote ...string) (repo string) {
	t.Helper()
	repo = filepath.Join(t.TempDir(), "client")
	must.OSTree(t, "init", "--repo="+repo, "--mode=archive")
	must.OSTree(t, append(append([]string{"remote", "add", "--repo=" + repo}, remote...), "preview", url)...)
	return repo
}

// A held session is a repository that ordinary clients pull from, whatever the mode of the
// one that has a part of its objects, and that shows nothing else.
func TestPreview(t *testing.T) {
	for _, mode := range []string{"archive", "bare-user"} {
		t.Run(mode, func(t *testing.T) {
			h := newCheckedHost(t, mode, "", "one", "two")
			h.check()
			publisher := h.AddToken(token.Options{Name: "release", Scopes: []string{token.Publish}})
			keys := gpg.New(t)
			secret := filepath.Join(t.TempDir(), "secret")
			other := ts.Commit(t, secret, "main", "secret", 30)
			want(t, h.Client(h.Token).Push(secret, wire.Ref{Ref: "other", New: other.String()}), wire.Published, "", "")
			want(t, h.Client(h.Token).Push(h.build, wire.Ref{Ref: "x", New: h.commits[0].String()}), wire.Published, "", "")
			keys.Sign(h.build, h.commits[1].String(), 0)
			s := h.hold("x", h.commits[0].String(), h.commits[1])
			want(t, s, wire.Held, "", "")
			url := h.URL + "/" + s.Preview

			repo := client(t, url, "--no-gpg-verify")
			must.OSTree(t, "pull", "--repo="+repo, "preview", "x")
			must.OSTree(t, "fsck", "--repo="+repo)
			if got := must.OSTree(t, "rev-parse", "--repo="+repo, "preview:x"); got != h.commits[1].String() {
				t.Errorf("x is at %s", got)
			}
			key := filepath.Join(t.TempDir(), "key")
			keys.Export(key, false, 0)
			must.OSTree(t, "pull", "--repo="+client(t, url, "--set=gpg-verify=true", "--gpg-import="+key), "preview", "x")
			must.OSTree(t, "pull", "--depth=-1", "--repo="+client(t, url, "--no-gpg-verify"), "preview", "x")
			if got := must.OSTree(t, "remote", "refs", "--repo="+repo, "preview"); got != "preview:x" {
				t.Errorf("it has the refs %q", got)
			}
			h.hidden(s, other, secret)

			want(t, h.publish(publisher, s.ID), wire.Published, "", "")
			if out, err := exec.Command("ostree", "pull", "--repo="+repo, "preview", "x").CombinedOutput(); err == nil || !strings.Contains(string(out), "404") {
				t.Errorf("after the publish: %v\n%s", err, out)
			}
			h.noViews()
		})
	}
}

// hidden is a failure if the preview of a session shows what is none of its own, or shows
// it to who does not know the key.
func (h *checkedHost) hidden(s wire.Session, other ostree.Checksum, repo string) {
	h.t.Helper()
	anybody := h.Client("")
	path := "/" + s.Preview
	object := func(n ostree.Name) string { return "objects/" + n.Path() }
	commit := object(ostree.Name{Checksum: h.commits[1], Type: ostree.CommitObject})
	anybody.Want(200, "GET", path+commit, nil)
	if a := anybody.Want(200, "HEAD", path+commit, nil); len(a.Body) > 0 {
		h.t.Error("HEAD has a body")
	}
	wrong := strings.Replace(path, s.ID+"/", s.ID+"/x", 1)
	for _, p := range []string{
		path, path + "refs/heads/other", path + "refs/heads", path + "summary.sig", path + "objects", path + "objects/",
		path + object(ostree.Name{Checksum: other, Type: ostree.CommitObject}), path + "objects/" + strings.Repeat("0", 64) + ".commit",
		path + "refs/heads/other%2f..%2fx", path + commit + "/", path + ".lock",
		wrong + commit, "/preview/" + s.ID + "/" + commit, "/preview/" + strings.Repeat("a", 16) + "/" + strings.TrimPrefix(path, "/preview/"+s.ID+"/") + commit,
	} {
		if a := anybody.Do("GET", p, nil); a.Status != 404 && a.Status != 401 {
			h.t.Errorf("%s: %d %s", p, a.Status, a.Body)
		}
	}
	for _, n := range ts.Objects(h.t, repo, other) {
		a := anybody.Do("GET", path+object(n), nil)
		if _, err := os.Stat(filepath.Join(h.build, "objects", n.Path())); a.Status != 404 && err != nil {
			h.t.Errorf("it shows %s", n)
		}
	}
}
