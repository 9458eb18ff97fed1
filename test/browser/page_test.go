// SPDX-License-Identifier: AGPL-3.0-or-later

package browser

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/chrome"
	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/site"
)

// quote is a text as JavaScript has it.
func quote(text string) string {
	b, err := json.Marshal(text)
	if err != nil {
		panic(err) // no string fails
	}
	return string(b)
}

// A push is seen to begin, to move and to end, by a page that nobody loads again.
func watchPush(t *testing.T, b *chrome.Browser) {
	s := newSite(t)
	v := visit(t, b, s.URL)
	v.signIn(newToken(s, "boss", "--scope", "admin"))
	v.awaitText("#under-way", "Nobody is sending anything")
	must.OK(t, v.tab.Await("window.stayed = true"))

	build := site.Big(t)
	l := s.Link()
	halves := []chan bool{make(chan bool), make(chan bool)} // each lets the link go on
	reached := make(chan bool)
	stop := func(i int) func() {
		return func() {
			reached <- true
			<-halves[i]
		}
	}
	l.At(build.Payload*2/5, stop(0))
	ended := run(s, s.Command("push", "--repo", build.Repo, "--jobs=1", "--chunk-size=1MiB"), 0)
	<-reached
	v.await(`document.querySelector("#under-way progress")?.value > 0`)
	v.awaitText("#under-way", build.Ref)
	first := v.ask(`document.querySelector("#under-way progress").value`)
	if most := v.ask(`document.querySelector("#under-way progress").max`); first >= most {
		t.Errorf("at two fifths it shows %v of %v", first, most)
	}
	halves[0] <- true
	l.At(build.Payload*4/5, stop(1))
	<-reached
	v.await(fmt.Sprintf(`document.querySelector("#under-way progress")?.value > %v || document.querySelector("#ended tr")`, first))
	halves[1] <- true
	ended()
	v.awaitText("#ended", build.Ref)
	v.awaitText("#ended", "published")
	v.awaitText("#under-way", "Nobody is sending anything")
	v.await("window.stayed")
}

// Whose token is revoked sees the sign-in at once, and nothing else by going back.
func revokeToken(t *testing.T, b *chrome.Browser) {
	s := newSite(t)
	v := visit(t, b, s.URL)
	v.signIn(newToken(s, "boss", "--scope", "admin"))
	v.await(`document.querySelector("#state.live")`)
	s.Run("tokens", "revoke", "boss").Must(t, 0)
	v.await(`document.querySelector("#token")`)
	v.open("page/refs")
	v.await(`document.querySelector("#token")`)
}

// A restart signs nobody out. Meanwhile the page says that it is not current, and then it
// goes on by itself.
func restartServer(t *testing.T, b *chrome.Browser) {
	s := newSite(t)
	l := s.Link()
	v := visit(t, b, s.URL)
	v.signIn(newToken(s, "boss", "--scope", "admin"))
	v.await(`document.querySelector("#state.live")`)
	must.OK(t, v.tab.Await("window.stayed = true"))
	must.OK(t, s.Server.Stop())
	v.awaitText("#state.stale", "Not current since")
	s.Restart(l)
	v.await(`document.querySelector("#state.live")`)
	api := s.API()
	_, err := api.OpenSession(t.Context(), wire.OpenRequest{Refs: []wire.Ref{{Ref: "os/after", New: site.Big(t).Commit}}})
	must.OK(t, err)
	v.awaitText("#under-way", "os/after")
	v.await("window.stayed")
}

// nginx with its defaults, which hold answers back, lets events through.
func throughNginx(t *testing.T, b *chrome.Browser) {
	s := newSite(t)
	api, token := s.API(), newToken(s, "boss", "--scope", "admin")
	s.Nginx(`location / { proxy_pass http://SERVER; }`)
	v := visit(t, b, s.URL)
	v.signIn(token)
	v.await(`document.querySelector("#state.live")`)
	began := time.Now()
	_, err := api.OpenSession(t.Context(), wire.OpenRequest{Refs: []wire.Ref{{Ref: "os/proxied", New: site.Big(t).Commit}}})
	must.OK(t, err)
	v.awaitText("#under-way", "os/proxied")
	t.Logf("the page has it after %v", time.Since(began).Round(time.Millisecond))
	if n := v.ask(`performance.getEntriesByType("resource").filter(r => r.name.includes("as=sections")).length`); n != 0 {
		t.Errorf("the page polled %v times", n)
	}
}

// Behind a proxy that holds back all of an answer until its end, the page says that it
// polls, and goes on so.
func throughBuffer(t *testing.T, b *chrome.Browser) {
	s := newSite(t)
	target, err := url.Parse(s.URL)
	must.OK(t, err)
	proxy := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) },
		ModifyResponse: func(r *http.Response) error {
			all, err := io.ReadAll(r.Body)
			r.Body = io.NopCloser(bytes.NewReader(all))
			return err
		},
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) {},
	})
	t.Cleanup(proxy.Close)
	v := visit(t, b, proxy.URL)
	v.signIn(newToken(s, "boss", "--scope", "admin"))
	v.awaitText("#state.polling", "asks every")
	_, err = s.API().OpenSession(t.Context(), wire.OpenRequest{Refs: []wire.Ref{{Ref: "os/buffered", New: site.Big(t).Commit}}})
	must.OK(t, err)
	v.awaitText("#under-way", "os/buffered")
	v.awaitText("#state.polling", "asks every")
}
