// SPDX-License-Identifier: AGPL-3.0-or-later

package console_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/token"
)

// Whoever has not signed in gets the page for that, and the two files that it needs.
func TestNobodyIsSignedIn(t *testing.T) {
	s := start(t)
	b := newBrowser(t, s.URL)
	for _, path := range []string{"/", "/page/", "/page/nothing", "/?as=events", "/?as=sections"} {
		if got := b.want(401, "GET", path, nil); strings.Contains(got.body, "Health") {
			t.Errorf("%s shows something: %s", path, got.body)
		}
	}
	b.want(401, "GET", "/", nil, `action="page/sign-in"`)
	b.want(401, "POST", "/page/sign-in", url.Values{"token": {"somebody's"}}, "not known here")
	b.want(401, "POST", "/page/sign-in", url.Values{"token": {"eyJ.eyJ.sig"}}, "CI job")
	b.want(401, "POST", "/page/sign-in", nil, "Give a token")
	b.want(200, "GET", "/page/style.css", nil)
	b.want(200, "GET", "/page/page.js", nil)
}

// A sign-in is a cookie that no script reads and no other site sends, and is not the token.
func TestCookie(t *testing.T) {
	s := start(t)
	b := newBrowser(t, s.URL)
	got := b.want(http.StatusSeeOther, "POST", "/page/sign-in", url.Values{"token": {s.Admin}})
	cookie := got.header.Get("Set-Cookie")
	for _, part := range []string{"; HttpOnly", "; SameSite=Strict", "; Path=/"} {
		if !strings.Contains(cookie, part) {
			t.Errorf("cookie %q lacks %q", cookie, part)
		}
	}
	for _, part := range []string{"Expires", "Max-Age", s.Admin, token.Hash(s.Admin), "Secure", "Domain"} {
		if strings.Contains(cookie, part) {
			t.Errorf("cookie %q has %q", cookie, part)
		}
	}
	b.want(200, "GET", "/", nil, "boss", "Health")
	stolen := newBrowser(t, s.URL)
	stolen.client.Jar.SetCookies(mustURL(t, s.URL), b.client.Jar.Cookies(mustURL(t, s.URL)))
	stolen.want(200, "GET", "/", nil, "boss")
	b.want(http.StatusSeeOther, "POST", "/page/sign-out", url.Values{})
	stolen.want(401, "GET", "/", nil)
}

// A proxy that is trusted tells that the browser came by HTTPS; another is not believed.
func TestCookieBehindProxy(t *testing.T) {
	s := start(t)
	for _, trusted := range []bool{false, true} {
		if trusted {
			s.Change(func(c *config.Config) { c.TrustedProxies = proxies(t, "127.0.0.1") })
		}
		got := newBrowser(t, s.URL).do("POST", "/page/sign-in", url.Values{"token": {s.Admin}}, "X-Forwarded-Proto", "https")
		if secure := strings.Contains(got.header.Get("Set-Cookie"), "; Secure"); secure != trusted {
			t.Errorf("trusted %t: %s", trusted, got.header.Get("Set-Cookie"))
		}
	}
}

// A restart signs nobody out, and what is kept for that opens nothing.
func TestRestart(t *testing.T) {
	s := start(t)
	b := newBrowser(t, s.URL)
	b.signIn(s.Admin)
	s.Stop()
	cookies := b.client.Jar.Cookies(mustURL(t, s.URL))
	s.Run()
	again := newBrowser(t, s.URL)
	cookies[0].Name = "ostree-upload-" + mustURL(t, s.URL).Port() // the port is another one
	again.client.Jar.SetCookies(mustURL(t, s.URL), cookies)
	again.want(200, "GET", "/", nil, "boss")
}

// A form of another site is refused, with the cookie or without.
func TestOtherSites(t *testing.T) {
	s := start(t)
	b := newBrowser(t, s.URL)
	b.signIn(s.Admin)
	for _, path := range []string{"/page/sign-in", "/page/sign-out"} {
		for _, header := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Origin", "https://elsewhere.example"}, {"Origin", "null"}} {
			if got := b.do("POST", path, url.Values{"token": {s.Admin}}, header...); got.status != 403 {
				t.Errorf("%s with %v: status %d", path, header, got.status)
			}
		}
	}
	b.want(200, "GET", "/", nil, "boss")
	if got := b.do("POST", "/page/sign-in", url.Values{"token": {s.Admin}}, "Origin", s.URL, "Sec-Fetch-Site", "same-origin"); got.status != http.StatusSeeOther {
		t.Errorf("the page's own form: status %d", got.status)
	}
}

// Each answer of the page tells the browser to run, load and frame nothing from elsewhere.
func TestHeaders(t *testing.T) {
	s := start(t)
	b := newBrowser(t, s.URL)
	look := func() {
		for _, path := range []string{"/", "/page/style.css", "/page/page.js", "/page/nothing", "/?as=sections"} {
			got := b.do("GET", path, nil)
			policy := strings.Split(got.header.Get("Content-Security-Policy"), "; ")
			for _, part := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "form-action 'self'", "frame-ancestors 'none'", "base-uri 'none'"} {
				if !slices.Contains(policy, part) {
					t.Errorf("%s: no %s in %v", path, part, policy)
				}
			}
			if got.header.Get("X-Content-Type-Options") != "nosniff" || got.header.Get("X-Frame-Options") != "DENY" || got.header.Get("Referrer-Policy") != "no-referrer" {
				t.Errorf("%s: headers %v", path, got.header)
			}
			for _, inline := range []string{"style=", "onclick=", "javascript:", "<style", "http://", "https://"} {
				if strings.Contains(got.body, inline) && strings.HasPrefix(got.header.Get("Content-Type"), "text/html") {
					t.Errorf("%s has %s", path, inline)
				}
			}
		}
	}
	look()
	b.signIn(s.Admin)
	look()
}
