// SPDX-License-Identifier: AGPL-3.0-or-later

package console_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/journal"
	"github.com/lirios/ostree-upload/test/must"
)

// BenchmarkPages tells what a look at a page costs the server with 1,000 sessions, of which
// 50 are under way.
func BenchmarkPages(b *testing.B) {
	s := start(b)
	s.Change(func(c *config.Config) { c.Limits.MaxSessions = 0 })
	for i := range 1000 {
		made, err := s.Journal.Create(journal.Session{Token: "ci", Refs: []wire.Ref{{Ref: fmt.Sprint("os/x/", i), New: strings.Repeat("1", 64)}}}, time.Hour)
		must.OK(b, err)
		if i >= 50 {
			_, err = s.Journal.Move(made.ID, journal.Aborted, nil)
			must.OK(b, err)
		}
	}
	browser := newBrowser(b, s.URL)
	browser.signIn(s.Admin)
	for _, path := range []string{"/", "/?as=sections", "/page/sessions?limit=1000", "/page/refs", "/page/tokens"} {
		b.Run(path, func(b *testing.B) {
			for b.Loop() {
				browser.want(200, "GET", path, nil)
			}
		})
	}
}
