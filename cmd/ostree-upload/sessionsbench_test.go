// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package main

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/journal"
	"github.com/lirios/ostree-upload/test/must"
	ts "github.com/lirios/ostree-upload/test/server"
)

// What it takes to list 1,000 sessions of a server.
func BenchmarkSessions(b *testing.B) {
	s := ts.Start(b, "archive")
	for i := range 1000 {
		refs := []wire.Ref{{Ref: fmt.Sprint("os/x86_64/", i), New: strings.Repeat("a", 64)}, {Ref: "other", New: strings.Repeat("b", 64)}}
		_, err := s.Journal.Create(journal.Session{Token: fmt.Sprint("build-host-", i%20), Refs: refs}, 1<<40)
		must.OK(b, err)
	}
	for b.Loop() {
		if code := run([]string{"sessions", "--address", s.URL, "--token", s.Admin}, io.Discard, b.Output()); code != 0 {
			b.Fatal("exit code ", code)
		}
	}
}
