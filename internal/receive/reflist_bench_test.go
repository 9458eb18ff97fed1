// SPDX-License-Identifier: AGPL-3.0-or-later

package receive_test

import (
	"encoding/json"
	"testing"

	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/journal"
	"github.com/lirios/ostree-upload/test/must"
	ts "github.com/lirios/ostree-upload/test/server"
)

// BenchmarkRefs asks for a list of 20,000 refs: as a push does, with their last moves,
// and one page of them.
func BenchmarkRefs(b *testing.B) {
	s := ts.Start(b, "archive")
	refs := s.ManyRefs(b, 20_000)
	for range 5 {
		moveAll(b, s, refs)
	}
	for _, query := range []string{"", "?moved=1", "?limit=100&moved=1"} {
		b.Run("GET refs"+query, func(b *testing.B) {
			c := s.Client(s.Token).In(b)
			for b.Loop() {
				var list wire.RefList
				must.OK(b, json.Unmarshal(c.Want(200, "GET", "/api/v1/refs"+query, nil).Body, &list))
				if len(list.Refs) < len(refs) && list.Next == "" {
					b.Fatalf("%d refs", len(list.Refs))
				}
			}
		})
	}
}

// moveAll records that a session has moved refs.
func moveAll(b *testing.B, s *ts.Server, refs []wire.Ref) {
	session, err := s.Journal.Create(journal.Session{Token: "ci", Refs: refs}, 1<<40)
	must.OK(b, err)
	for _, to := range []journal.State{journal.Verifying, journal.Publishing, journal.Published} {
		_, err := s.Journal.Move(session.ID, to, nil)
		must.OK(b, err)
	}
	must.OK(b, s.Journal.Release(session.ID))
}
