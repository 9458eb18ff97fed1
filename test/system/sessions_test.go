// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package system

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/journal"
	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/server"
)

// someSessions fills a journal with sessions of five refs each: of ten tokens, most of
// them ended, some failed with problems.
func someSessions(b *testing.B, j *journal.Journal, n int) {
	b.Helper()
	for i := range n {
		var refs []wire.Ref
		for r := range 5 {
			refs = append(refs, wire.Ref{Ref: fmt.Sprintf("os/branch-%d/arch-%d", i, r), New: strings.Repeat("5", 64)})
		}
		s, err := j.Create(journal.Session{Refs: refs, Token: fmt.Sprint("builder-", i%10), Remote: "192.0.2.1"}, time.Hour)
		must.OK(b, err)
		if i%10 == 0 {
			continue
		}
		_, err = j.Move(s.ID, journal.Verifying, nil)
		must.OK(b, err)
		if i%10 > 1 {
			_, err = j.Move(s.ID, journal.Publishing, nil)
			must.OK(b, err)
			_, err = j.Move(s.ID, journal.Published, nil)
			must.OK(b, err)
			continue
		}
		must.OK(b, j.Withdraw(s.ID, problems(20), nil))
		_, err = j.Move(s.ID, journal.Failed, func(s *journal.Session) { s.Error, s.Detail = wire.MissingObjects, "20 objects are missing" })
		must.OK(b, err)
	}
}

func problems(n int) (list []wire.ObjectProblem) {
	for i := range n {
		name := ostree.Name{Checksum: ostree.Checksum{byte(i)}, Type: ostree.File}
		list = append(list, wire.ObjectProblem{Object: name.String(), Code: wire.MissingObjects})
	}
	return list
}

// BenchmarkSessions runs `ostree-upload sessions` against a server with 1,000 sessions.
// It is to take less than 200 ms.
func BenchmarkSessions(b *testing.B) {
	const sessions = 1000
	s := server.Start(b, "archive")
	someSessions(b, s.Journal, sessions)
	for b.Loop() {
		cmd := exec.Command("ostree-upload", "sessions", "--address", s.URL)
		cmd.Env = append(os.Environ(), "OSTREE_UPLOAD_TOKEN="+s.Admin)
		out, err := cmd.Output()
		must.OK(b, err)
		if lines := strings.Count(string(out), "\n"); lines < sessions {
			b.Fatalf("%d lines for %d sessions:\n%.500s", lines, sessions, out)
		}
	}
}
