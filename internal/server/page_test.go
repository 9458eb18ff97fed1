// SPDX-License-Identifier: AGPL-3.0-or-later

package server_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/server"
	"github.com/lirios/ostree-upload/internal/token"
	"github.com/lirios/ostree-upload/test/certs"
	"github.com/lirios/ostree-upload/test/must"
)

// looker is somebody with a browser.
type looker struct {
	t      *testing.T
	base   string
	client *http.Client
}

func newLooker(t *testing.T, base string) *looker {
	jar, err := cookiejar.New(nil)
	must.OK(t, err)
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	t.Cleanup(transport.CloseIdleConnections)
	return &looker{t, base, &http.Client{Jar: jar, Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// signIn signs in at a path of a page, and returns the cookie.
func (l *looker) signIn(path, secret string) string {
	l.t.Helper()
	res, err := l.client.PostForm(l.base+path+"page/sign-in", url.Values{"token": {secret}})
	must.OK(l.t, err)
	must.OK(l.t, res.Body.Close())
	if res.StatusCode != http.StatusSeeOther {
		l.t.Fatalf("sign in at %s: status %d", path, res.StatusCode)
	}
	return res.Header.Get("Set-Cookie")
}

// sees gets a page of a status that has some words.
func (l *looker) sees(path string, status int, words ...string) {
	l.t.Helper()
	res, err := l.client.Get(l.base + path)
	must.OK(l.t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	must.OK(l.t, err)
	if res.StatusCode != status {
		l.t.Errorf("%s: status %d, want %d: %s", path, res.StatusCode, status, body)
	}
	for _, w := range words {
		if !strings.Contains(string(body), w) {
			l.t.Errorf("%s has no %q: %s", path, w, body)
		}
	}
}

// leads gets a page that leads to another.
func (l *looker) leads(path, to string) {
	l.t.Helper()
	res, err := l.client.Get(l.base + path)
	must.OK(l.t, err)
	must.OK(l.t, res.Body.Close())
	if got := res.Header.Get("Location"); res.StatusCode != http.StatusSeeOther || got != to {
		l.t.Errorf("%s: status %d and location %q, want 303 and %q", path, res.StatusCode, got, to)
	}
}

// Of several repositories each has its page, for the tokens that may be used for it, and
// the first page has the choice.
func TestPageOfSeveral(t *testing.T) {
	dir, log := t.TempDir(), newEventLog()
	all, first := token.Generate(token.Options{Name: "all", Scopes: []string{token.Admin}})
	only, second := token.Generate(token.Options{Name: "only-os", Repositories: []string{"os"}})
	c, err := config.Parse(fmt.Appendf(nil, "page: true\nbase-path: /below\nlimits: {min-free-space: 0}\nrepositories: {os: {repo: %s/os}, apps: {repo: %s/apps}}", dir, dir))
	must.OK(t, err)
	c.Tokens = append(c.Tokens, first, second)
	address, _ := log.serveAs(t, server.Options{Settings: func() *config.Config { return c }})

	nobody := newLooker(t, address)
	for _, path := range []string{"/", "/os/", "/apps/page/refs", "/below/", "/below/os/page/tokens"} {
		nobody.sees(path, 401, "Sign in")
	}
	nobody.leads("/os", "os/")
	nobody.leads("/below", "below/")
	nobody.leads("/below/os", "os/")
	nobody.sees("/none/", 401, "no token was sent")
	nobody.sees("/os/api/v1/refs", 401, "no token was sent")

	boss := newLooker(t, address)
	boss.signIn("/", all)
	for _, below := range []string{"", "/below"} {
		boss.sees(below+"/", 200, `href="os/"`, `href="apps/"`)
		boss.sees(below+"/os/", 200, `href="../apps/"`, "Health")
		boss.sees(below+"/apps/page/tokens", 200, `href="../../os/"`)
		boss.sees(below+"/os/page/tokens", 200, "only-os")
	}
	guest := newLooker(t, address)
	guest.signIn("/os/", only)
	guest.sees("/os/", 200, "Health")
	guest.sees("/apps/", 403, "may not be used for repository apps")
	guest.sees("/apps/page/tokens", 403, "may not be used for repository apps")
	guest.sees("/", 200, `href="os/"`)
}

// With an address of its own the page is there alone, with the certificate of the server.
func TestPageAddress(t *testing.T) {
	dir, log := t.TempDir(), newEventLog()
	secret, boss := token.Generate(token.Options{Name: "boss", Scopes: []string{token.Admin}})
	c, err := config.Parse([]byte("page-address: \"127.0.0.1:0\"\nlimits: {min-free-space: 0}"))
	must.OK(t, err)
	c.Tokens = append(c.Tokens, boss)
	ca, files := certs.New(t, filepath.Join(dir, "ca.pem")), certs.In(dir)
	ca.Write(t, files, "localhost", time.Now().Add(time.Hour))
	c.TLS = config.TLS{Cert: files.Cert, Key: files.Key}
	address, _ := log.serveAs(t, server.Options{Repo: filepath.Join(dir, "prod"), TLS: c.TLS, PageAddress: c.PageAddress, Settings: func() *config.Config { return c }})
	at := "https://" + log.wait("receiving")["page"].(string)

	here := newLooker(t, at)
	if cookie := here.signIn("/", secret); !strings.Contains(cookie, "; Secure") {
		t.Errorf("over HTTPS the cookie is %q", cookie)
	}
	here.sees("/", 200, "Health")
	here.sees("/api/v1/info", 404, "no such page")
	here.sees("/healthz", 404)
	there := newLooker(t, address)
	there.sees("/", 401, "no token was sent")
	there.sees("/page/style.css", 401)
	there.sees("/healthz", 200)
}
