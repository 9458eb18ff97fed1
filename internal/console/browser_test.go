// SPDX-License-Identifier: AGPL-3.0-or-later

package console_test

import (
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/forwarded"
	"github.com/lirios/ostree-upload/test/must"
	ts "github.com/lirios/ostree-upload/test/server"
)

// browser keeps cookies, as a browser does, and follows no redirect.
type browser struct {
	t      testing.TB
	base   string
	client *http.Client
}

// start serves an archive repository with the page.
func start(t testing.TB) *ts.Server {
	s := ts.Start(t, "archive")
	s.Change(func(c *config.Config) { c.Page, c.Limits.MinFreeSpace = true, 0 })
	return s
}

func newBrowser(t testing.TB, base string) *browser {
	jar, err := cookiejar.New(nil)
	must.OK(t, err)
	return &browser{t, base, &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// answer is a response, read to its end.
type answer struct {
	status int
	header http.Header
	body   string
}

func (b *browser) do(method, path string, form url.Values, headers ...string) answer {
	b.t.Helper()
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	req, err := http.NewRequestWithContext(b.t.Context(), method, b.base+path, body)
	must.OK(b.t, err)
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := b.client.Do(req)
	must.OK(b.t, err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	must.OK(b.t, err)
	return answer{res.StatusCode, res.Header, string(text)}
}

// want is do for a request that must get this status, and words in its answer.
func (b *browser) want(status int, method, path string, form url.Values, words ...string) answer {
	b.t.Helper()
	a := b.do(method, path, form)
	if a.status != status {
		b.t.Fatalf("%s %s: status %d, want %d: %s", method, path, a.status, status, a.body)
	}
	for _, w := range words {
		if !strings.Contains(a.body, w) {
			b.t.Fatalf("%s %s has no %q: %s", method, path, w, a.body)
		}
	}
	return a
}

// signIn signs in with a token.
func (b *browser) signIn(secret string) {
	b.t.Helper()
	b.want(http.StatusSeeOther, "POST", "/page/sign-in", url.Values{"token": {secret}})
}

func mustURL(t testing.TB, address string) *url.URL {
	t.Helper()
	u, err := url.Parse(address)
	must.OK(t, err)
	return u
}

func proxies(t testing.TB, names ...string) forwarded.Proxies {
	t.Helper()
	p, err := forwarded.ParseProxies(names)
	must.OK(t, err)
	return p
}
