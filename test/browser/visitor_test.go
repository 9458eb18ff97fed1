// SPDX-License-Identifier: AGPL-3.0-or-later

package browser

import (
	"errors"
	"os/exec"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/lirios/ostree-upload/test/chrome"
	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/site"
)

func TestMain(m *testing.M) { site.Main(m) }

// TestPage has all tests of the page, with one Chromium.
func TestPage(t *testing.T) {
	browser, err := chrome.Start()
	if errors.Is(err, chrome.ErrNone) {
		t.Skip(err)
	}
	must.OK(t, err)
	t.Cleanup(func() { must.OK(t, browser.End()) })
	for name, test := range map[string]func(*testing.T, *chrome.Browser){
		"push":     watchPush,
		"keyboard": abortByKeyboard,
		"held":     publishHeld,
		"nothing":  offerNothing,
		"hostile":  showHostileText,
		"barriers": findNoBarriers,
		"revoked":  revokeToken,
		"restart":  restartServer,
		"nginx":    throughNginx,
		"buffered": throughBuffer,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, browser)
		})
	}
}

// newSite is a site with the page, and the configuration that follows.
func newSite(t *testing.T, configuration ...string) *site.Site {
	t.Helper()
	s := site.At(t, t.TempDir())
	s.MakeToken()
	s.Configure(strings.Join(append(configuration, "page: true"), "\n"))
	t.Cleanup(s.End)
	s.Start("--init")
	return s
}

// newToken makes a token and returns it.
func newToken(s *site.Site, name string, flags ...string) string {
	s.T.Helper()
	made := s.Run(append([]string{"gentoken", "--name", name}, flags...)...).Must(s.T, 0)
	return strings.TrimSpace(made.Stdout)
}

// A visitor looks at the page. What the page complains of, or refuses to run, is a fault.
type visitor struct {
	t   *testing.T
	tab *chrome.Tab
	url string // of the first page
}

func visit(t *testing.T, b *chrome.Browser, url string) *visitor {
	t.Helper()
	tab, err := b.Open()
	must.OK(t, err)
	v := &visitor{t, tab, strings.TrimSuffix(url, "/") + "/"}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the page at the end:\n%s\nrequests that failed: %q", v.text(), tab.Lost())
		}
		for _, fault := range tab.Faults() {
			t.Errorf("the browser complains: %s", fault)
		}
		tab.Close()
	})
	v.open("")
	return v
}

// open goes to a path below the first page.
func (v *visitor) open(path string) {
	v.t.Helper()
	must.OK(v.t, v.tab.Go(v.url+path))
}

// signIn types a token and waits for the overview.
func (v *visitor) signIn(token string) {
	v.t.Helper()
	must.OK(v.t, v.tab.Type("#token", token+kb.Enter))
	v.await(`document.querySelector("#under-way")`)
}

// await waits until an expression is true in the page.
func (v *visitor) await(expression string) {
	v.t.Helper()
	must.OK(v.t, v.tab.Await(expression))
}

// awaitText waits until an element has a text.
func (v *visitor) awaitText(selector, text string) {
	v.t.Helper()
	v.await(`document.querySelector(` + quote(selector) + `)?.innerText.includes(` + quote(text) + `)`)
}

// ask evaluates an expression that is a number.
func (v *visitor) ask(expression string) float64 {
	v.t.Helper()
	n, err := chrome.Ask[float64](v.tab, expression)
	must.OK(v.t, err)
	return n
}

// click clicks on an element once it is there.
func (v *visitor) click(selector string) {
	v.t.Helper()
	must.OK(v.t, v.tab.Do(chromedp.Click(chromedp.CSS(selector))))
}

// press presses a key.
func (v *visitor) press(keys string) {
	v.t.Helper()
	must.OK(v.t, v.tab.Do(chromedp.KeyEvent(keys)))
}

// text is all that can be read; "" if there is no page.
func (v *visitor) text() string {
	text, err := chrome.Ask[string](v.tab, "document.body.innerText")
	if err != nil {
		return err.Error()
	}
	return text
}

// run starts a command of the site; what it returns waits for its end, which has to be
// with an exit code.
func run(s *site.Site, cmd *exec.Cmd, exit int) (wait func()) {
	s.T.Helper()
	wait1 := site.Background(s.T, cmd)
	return func() {
		s.T.Helper()
		wait1().Must(s.T, exit)
	}
}
