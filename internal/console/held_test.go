// SPDX-License-Identifier: AGPL-3.0-or-later

package console_test

import (
	"net/http"
	"net/url"
	"testing"

	"github.com/lirios/ostree-upload/internal/wire"

	ts "github.com/lirios/ostree-upload/test/server"
)

// A page says of a held session what is to become of it or, in the end, became.
func TestHeldInWords(t *testing.T) {
	s := start(t)
	b := newBrowser(t, s.URL)
	b.signIn(s.Admin)
	client, build := s.Client(s.Admin), t.TempDir()+"/build"
	commit := ts.Commit(t, build, "os/x", "held", 3).String()
	for _, c := range []struct{ act, words string }{{"reject", "rejected by token boss"}, {"abort", "nobody published it"}, {"publish", "published by token boss"}} {
		id := client.Hold(build, wire.Ref{Ref: "os/x", New: commit}).ID
		b.want(200, "GET", "/page/sessions/"+id, nil, "somebody has to publish it")
		b.want(http.StatusSeeOther, "POST", "/page/sessions/"+id+"/"+c.act, url.Values{"field": {"no"}})
		client.Settled(id)
		b.want(200, "GET", "/page/sessions/"+id, nil, c.words)
	}
}
