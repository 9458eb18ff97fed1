// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/internal/link"
	"github.com/lirios/ostree-upload/internal/push"
	"github.com/lirios/ostree-upload/internal/wire"
)

// killedMidway kills the client of a push of b when most of it has arrived and,
// when all whole objects of that are staged, the server. It returns the session.
func killedMidway(s *site, l *link.Proxy, b *build) (session string) {
	s.t.Helper()
	if out, err := runKilled(s.command("push", "--repo", b.repo, "--jobs", "2"), l, b.payload*4/5); err != nil {
		s.t.Fatalf("%v\n%s", err, out)
	}
	session = s.openSession().ID
	client, err := push.NewClient(s.url, s.token)
	if err != nil {
		s.t.Fatal(err)
	}
	defer client.Close()
	if err := client.Salvage(s.t.Context(), session); err != nil {
		s.t.Fatal(err)
	}
	s.server.kill()
	return session
}

// staged is where the server keeps what it verified.
func (s *site) staged() string {
	return filepath.Join(s.prod, ".ostree-upload", "staged", "objects")
}

// What a power cut damaged in staging is found and sent again, whether it came
// in a pack or alone.
func TestPowerCutDamagesStaging(t *testing.T) {
	t.Parallel()
	s, b := newSite(t), big(t)
	l := s.link()
	id := killedMidway(s, l, b)
	packed := damageOne(t, s.staged(), func(size int64) bool { return size <= wire.MaxPackPayload })
	alone := damageOne(t, s.staged(), func(size int64) bool { return size > wire.MaxPackPayload })
	s.restart(l)
	for _, path := range []string{packed, alone} {
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s was trusted", path)
		}
	}
	s.push(b, "--resume", id)
	published(t, b, s.prod)
}

// A server that fails to start before it has verified what an unclean stop left
// does not count as a clean stop: the next one would trust, and publish, what a
// power cut damaged.
func TestFailedStartAfterUncleanStop(t *testing.T) {
	t.Parallel()
	s, b := newSite(t), big(t)
	l := s.link()
	id := killedMidway(s, l, b)
	obstacle := filepath.Join(s.staged(), "00", strings.Repeat("0", 62)+".filez")
	if err := os.Mkdir(obstacle, 0o755); err != nil {
		t.Fatal(err)
	}
	if r, err := startReceiver(s.dir, os.Environ(), "--repo", "prod"); err == nil {
		r.kill()
		t.Fatal("it started although it could not verify what is staged")
	}
	if err := os.Remove(obstacle); err != nil {
		t.Fatal(err)
	}
	s.restart(l)
	if !strings.Contains(s.server.log.String(), "unclean stop") {
		t.Error("what is staged was trusted")
	}
	s.push(b, "--resume", id)
	published(t, b, s.prod)
}

// damageOne cuts a staged file of a certain size short, as a power cut may.
func damageOne(t *testing.T, staged string, size func(int64) bool) (path string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(staged, "*", "*.filez"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if !size(info.Size()) {
			continue
		}
		if err := os.Truncate(path, info.Size()/2); err != nil {
			t.Fatal(err)
		}
		return path
	}
	t.Fatalf("none of %d staged files is of that size", len(files))
	return ""
}
