// SPDX-License-Identifier: AGPL-3.0-or-later

package browser

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/chrome"
	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/site"
)

// markup would run a script or show a picture if it were taken for HTML.
const markup = `"><img src="x" onerror="hacked = 1"><script>hacked = 1</script>`

// holdPush pushes a small commit with a subject, which is held, and returns its session.
func holdPush(s *site.Site, ref, subject string) string {
	s.T.Helper()
	pushSubject(s, ref, subject, 0, "--hold")
	held := s.Sessions(wire.Held)
	if len(held) == 0 {
		s.T.Fatal("nothing is held")
	}
	return held[0].ID
}

// pushSubject pushes a small commit with a subject, which has to exit with a code.
func pushSubject(s *site.Site, ref, subject string, exit int, flags ...string) {
	s.T.Helper()
	dir := s.T.TempDir()
	tree, repo := filepath.Join(dir, "tree"), filepath.Join(dir, "repo")
	must.OK(s.T, site.SmallTree(tree, 5, ref+subject))
	site.Commit(s.T, repo, "archive", ref, tree, "--subject="+subject, "--no-bindings")
	s.Run(append([]string{"push", "--repo", repo, ref}, flags...)...).Must(s.T, exit)
}

// What a hostile token's holder says is shown as text: names that are as long as may be,
// a commit's subject, what a check says, and why a session was rejected.
func showHostileText(t *testing.T, b *chrome.Browser) {
	dir := t.TempDir()
	check := filepath.Join(dir, "check")
	must.OK(t, os.WriteFile(check, []byte("#!/bin/sh\ncase $OSTREE_REFS in *refused*) echo '"+markup+"' >&2; exit 1;; esac\n"), 0o755))
	s := newSite(t, "check-command: ["+check+"]")
	boss := newToken(s, "boss", "--scope", "admin")
	name := "onerror.hacked@" + strings.Repeat("x", 49)
	s.Token = newToken(s, name, "--scope", "push", "--scope", "publish")
	long := "os/" + strings.Repeat("constructor.__proto__-", 8) + "end"
	held := holdPush(s, long, markup)
	pushSubject(s, "os/refused", markup, 3)
	rejected := holdPush(s, "os/rejected", markup)
	s.Run("sessions", "reject", rejected, "--reason", markup).Must(t, 0)

	v := visit(t, b, s.URL)
	v.signIn(boss)
	v.awaitText("main", long)
	v.awaitText("main", name)
	failed := s.Sessions(wire.Failed)[0].ID
	for _, id := range []string{held, rejected, failed} {
		v.open("page/sessions/" + id)
		v.awaitText("main", markup)
		v.awaitText("main", name)
	}
	for _, path := range []string{"page/sessions", "page/refs", "page/tokens"} {
		v.open(path)
		v.await(`document.querySelector("main h1")`)
	}
	v.awaitText("main", name)
	must.OK(t, v.tab.Await(`typeof hacked === "undefined" && !document.querySelector("img, main script")`))
}
