// SPDX-License-Identifier: AGPL-3.0-or-later

package console_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/internal/wire"

	ts "github.com/lirios/ostree-upload/test/server"
)

// Refs are found by a part of their name or by a pattern, and by each beginning of one as
// it is typed.
func TestSearch(t *testing.T) {
	s := start(t)
	b := newBrowser(t, s.URL)
	b.signIn(s.Admin)
	build := t.TempDir() + "/build"
	commit := ts.Commit(t, build, "os/x86/stable", "one", 3).String()
	s.Client(s.Admin).Push(build, wire.Ref{Ref: "os/x86/stable", New: commit})
	for search, found := range map[string]bool{
		"": true, "x86": true, "os/": true, "/sta": true, "arm": false,
		"*": false, "os/*": false, "os/*/": true, "os/*/st*": true, "**": true, "**/": true,
	} {
		got := b.want(200, "GET", "/page/refs?q="+url.QueryEscape(search), nil)
		if strings.Contains(got.body, `id="ref-os/x86/stable"`) != found {
			t.Errorf("%q: found %v, want %v: %s", search, !found, found, got.body)
		}
	}
}
