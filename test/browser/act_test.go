// SPDX-License-Identifier: AGPL-3.0-or-later

package browser

import (
	"testing"

	"github.com/chromedp/chromedp/kb"

	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/chrome"
	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/site"
)

// openSession opens a session for a ref, and leaves it.
func openSession(s *site.Site, ref string) string {
	s.T.Helper()
	opened, err := s.API().OpenSession(s.T.Context(), wire.OpenRequest{Refs: []wire.Ref{{Ref: ref, New: site.Big(s.T).Commit}}})
	must.OK(s.T, err)
	return opened.ID
}

// With the keyboard alone one signs in, finds a session, thinks better of aborting it,
// and then aborts it. The confirmation names the session and its ref.
func abortByKeyboard(t *testing.T, b *chrome.Browser) {
	s := newSite(t)
	id := openSession(s, "os/to-abort")
	v := visit(t, b, s.URL)
	v.await(`document.activeElement.id === "token"`)
	v.press(newToken(s, "boss", "--scope", "admin") + kb.Enter)
	v.await(`document.querySelector("#under-way tbody a")`)
	v.tabTo("a[href$='page/sessions/" + id + "']")
	v.press(kb.Enter)
	v.await(`document.querySelector("h1").innerText.includes("` + id + `")`)
	for _, sure := range []bool{false, true} {
		v.tabTo("a[href$='/abort']")
		v.press(kb.Enter)
		v.await(`location.pathname.endsWith("/abort")`)
		v.awaitText("main", id)
		v.awaitText("main", "os/to-abort")
		if !sure {
			v.await(`document.readyState === "complete"`) // else the script is not there yet
			v.press(kb.Escape)
			v.await(`location.pathname.endsWith("` + id + `") && document.querySelector("a[href$='/abort']")`)
			if got := s.Run("sessions", "show", id, "--json").Must(t, 0).Stdout; len(s.Sessions(wire.Open)) != 1 {
				t.Errorf("after Escape it is %s", got)
			}
			continue
		}
		v.tabTo(".confirm button")
		v.press(kb.Enter)
	}
	v.await(`document.querySelector(".state.aborted")`)
	if list := s.Sessions(wire.Aborted); len(list) != 1 || list[0].ID != id {
		t.Errorf("aborted are %v", list)
	}
}

// tabTo presses Tab until the focus, which has to be seen, is on an element.
func (v *visitor) tabTo(selector string) {
	v.t.Helper()
	for range 200 {
		v.press(kb.Tab)
		is, err := chrome.Ask[bool](v.tab, "document.activeElement.matches("+quote(selector)+")")
		must.OK(v.t, err)
		if !is {
			continue
		}
		seen, err := chrome.Ask[bool](v.tab, `getComputedStyle(document.activeElement).outlineStyle !== "none"`)
		must.OK(v.t, err)
		if !seen {
			v.t.Errorf("the focus on %s cannot be seen", selector)
		}
		return
	}
	v.t.Fatalf("no Tab comes to %s", selector)
}

// A held session is published after a confirmation, and its end is seen.
func publishHeld(t *testing.T, b *chrome.Browser) {
	s := newSite(t)
	id := holdPush(s, "os/held", "What is new")
	v := visit(t, b, s.URL)
	v.signIn(newToken(s, "release", "--scope", "publish", "--scope", "promote"))
	v.awaitText("#under-way", "os/held")
	v.click("#under-way tbody a")
	v.awaitText("#session-refs", "What is new")
	v.click("a[href$='/publish']")
	v.awaitText("main", id)
	v.awaitText("main", "os/held")
	v.click(".confirm button")
	v.await(`document.querySelector("#session .state.published")`)
	v.awaitText("#session", "published by token release")
	if refs := must.OSTree(t, "refs", "--repo="+s.Prod); refs != "os/held" {
		t.Errorf("refs %q", refs)
	}
	v.click("#session-refs tbody a")
	v.awaitText("#history", "release")
}

// A token that may not do it is offered nothing.
func offerNothing(t *testing.T, b *chrome.Browser) {
	s := newSite(t)
	id := holdPush(s, "os/held", "What is new")
	v := visit(t, b, s.URL)
	v.signIn(newToken(s, "watch", "--scope", "push", "--ref", "none/**"))
	v.await(`!document.querySelector("#under-way tbody a")`)
	v.open("page/sessions/" + id)
	v.await(`document.querySelector(".bad") && !document.querySelector(".actions")`)
}
