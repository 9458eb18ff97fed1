// SPDX-License-Identifier: AGPL-3.0-or-later

package console_test

import (
	"bufio"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/console"
	"github.com/lirios/ostree-upload/test/must"
)

// timed notes whether an answer was given a deadline before something of it was written.
type timed struct {
	*httptest.ResponseRecorder
	is bool
}

func (w *timed) SetWriteDeadline(until time.Time) error {
	w.is = w.is || !until.IsZero() && w.Body.Len() == 0
	return nil
}

// A browser that does not take its answer keeps a connection for a while only.
func TestAnswersAreTimed(t *testing.T) {
	c := console.New(console.Config{API: http.NotFoundHandler(), Settings: func() *config.Config { return &config.Config{Page: true} }, Log: slog.Default()})
	for _, path := range []string{"/", "/?as=sections", "/page/style.css", "/page/nothing", "/page//sessions"} {
		w := &timed{ResponseRecorder: httptest.NewRecorder()}
		c.Alone().ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		if !w.is {
			t.Errorf("the answer to %s has no deadline", path)
		}
	}
}

// A stream does not wait for a body that was declared and never comes: it would hold the
// place of another one for as long as the connection lasts.
func TestStreamWithBody(t *testing.T) {
	s := start(t)
	b := newBrowser(t, s.URL)
	b.signIn(s.Admin)
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "http://"))
	must.OK(t, err)
	defer conn.Close()
	cookie := b.client.Jar.Cookies(mustURL(t, s.URL))[0]
	_, err = fmt.Fprintf(conn, "GET /?as=events HTTP/1.1\r\nHost: %s\r\nCookie: %s\r\nContent-Length: 10\r\n\r\n", mustURL(t, s.URL).Host, cookie)
	must.OK(t, err)
	lines := bufio.NewScanner(conn)
	lines.Buffer(nil, 4<<20)
	for lines.Scan() {
		if lines.Text() == "event: update" {
			return
		}
	}
	t.Fatalf("no event came: %v", lines.Err())
}

// Signing out with a cookie that is none of the server's, as anybody may, writes nothing.
func TestSignOutOfNothing(t *testing.T) {
	s := start(t)
	b := newBrowser(t, s.URL)
	b.signIn(s.Admin)
	kept, err := filepath.Glob(filepath.Join(s.State, "page-sign-ins.json"))
	must.OK(t, err)
	if len(kept) != 1 {
		t.Fatalf("sign-ins are kept in %v", kept)
	}
	must.OK(t, os.Remove(kept[0]))
	cookie := b.client.Jar.Cookies(mustURL(t, s.URL))[0]
	stranger := newBrowser(t, s.URL)
	stranger.client.Jar.SetCookies(mustURL(t, s.URL), []*http.Cookie{{Name: cookie.Name, Value: "made up"}})
	stranger.want(http.StatusSeeOther, "POST", "/page/sign-out", url.Values{})
	if _, err := os.Stat(kept[0]); !os.IsNotExist(err) {
		t.Errorf("a stranger's sign-out wrote the file of sign-ins: %v", err)
	}
	b.want(http.StatusSeeOther, "POST", "/page/sign-out", url.Values{})
	if _, err := os.Stat(kept[0]); err != nil {
		t.Errorf("a sign-out was not kept: %v", err)
	}
}
