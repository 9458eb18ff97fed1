// SPDX-License-Identifier: AGPL-3.0-or-later

package console_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"testing"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/wire"
)

// BenchmarkCrowd is what the page takes of a server with 1,000 sessions, of which 50 are
// under way: the whole of it, and what an open one looks at each time.
func BenchmarkCrowd(b *testing.B) {
	s := start(b)
	s.Change(func(c *config.Config) { c.Limits.MaxSessions = 0 })
	api := s.Client(s.Token)
	for i := range 1000 {
		commit := sha256.Sum256([]byte(fmt.Sprint(i)))
		opened := api.Open(wire.Ref{Ref: fmt.Sprintf("apps/org.example.App%d/x86_64/stable", i), New: hex.EncodeToString(commit[:])})
		if i < 950 {
			api.Want(200, "DELETE", "/api/v1/sessions/"+opened.ID, nil)
		}
	}
	browser := newBrowser(b, s.URL)
	browser.signIn(s.Admin)
	for name, path := range map[string]string{"page": "/", "look": "/?as=sections"} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				browser.want(200, "GET", path, nil)
			}
		})
	}
}
