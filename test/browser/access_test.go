// SPDX-License-Identifier: AGPL-3.0-or-later

package browser

import (
	_ "embed"
	"testing"

	"github.com/lirios/ostree-upload/test/chrome"
	"github.com/lirios/ostree-upload/test/must"
)

// axe is axe-core 4.14.1, by Deque Systems, under the licence beside it.
//
//go:embed testdata/axe/axe.min.js
var axe string

// hindered are axe's findings of an impact that keeps people from using the page.
const hindered = `axe.run(document, {resultTypes: ["violations"]}).then(found => found.violations
	.filter(v => v.impact === "serious" || v.impact === "critical")
	.flatMap(v => v.nodes.map(n => v.id + " (" + v.help + "): " + n.html.slice(0, 200) + " " + (n.any[0]?.message || ""))))`

// barriers has axe look at the page in both schemes, and on a small screen.
func (v *visitor) barriers(what string) {
	v.t.Helper()
	must.OK(v.t, v.tab.PassPolicy())
	for _, look := range []struct {
		width  int
		scheme string
	}{{1280, "light"}, {1280, "dark"}, {360, "dark"}} {
		must.OK(v.t, v.tab.Look(look.width, 800, look.scheme))
		_, err := chrome.Ask[bool](v.tab, axe+"\n;true")
		must.OK(v.t, err)
		found, err := chrome.Ask[[]string](v.tab, hindered)
		must.OK(v.t, err)
		for _, f := range found {
			v.t.Errorf("%s, %s at %d: %s", what, look.scheme, look.width, f)
		}
	}
}

// Nothing of any part of the page hinders whoever has a screen reader, or sees little.
func findNoBarriers(t *testing.T, b *chrome.Browser) {
	s := newSite(t)
	held := holdPush(s, "os/held", "A subject")
	v := visit(t, b, s.URL)
	v.barriers("sign-in")
	v.signIn(newToken(s, "boss", "--scope", "admin"))
	for _, path := range []string{"", "page/sessions", "page/sessions/" + held, "page/refs", "page/tokens"} {
		v.open(path)
		v.await(`document.querySelector("main h1")`)
		v.barriers("/" + path)
	}
}
