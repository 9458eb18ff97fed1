// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package push

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/client"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/link"
	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/server"
)

// rivalPayload is what pushes of rivalRepo send: a large object and small ones.
const rivalPayload = 6_000_000 + 60*100_000

func rivalRepo(t *testing.T) (repo, head string) {
	t.Helper()
	repo, tree := filepath.Join(t.TempDir(), "repo"), t.TempDir()
	for i := range 61 {
		b := make([]byte, 100_000) // does not compress
		if i == 0 {
			b = make([]byte, 6_000_000)
		}
		rand.Read(b)
		must.OK(t, os.WriteFile(filepath.Join(tree, fmt.Sprint("file", i)), b, 0o644))
	}
	must.OSTree(t, "init", "--repo="+repo, "--mode=archive")
	return repo, must.OSTree(t, "commit", "--fsync=false", "--repo="+repo, "--branch="+testRef, "--tree=dir="+tree)
}

// linkTo is a link to s that lets through so many bytes a second.
func linkTo(t *testing.T, s *server.Server, rate int64) *link.Proxy {
	t.Helper()
	l, err := link.Listen(strings.TrimPrefix(s.URL, "http://"))
	must.OK(t, err)
	t.Cleanup(func() { l.Close() })
	l.Set(link.Faults{Rate: rate})
	return l
}

// start pushes over l, and tells on the channel how that ended.
func start(ctx context.Context, s *server.Server, l *link.Proxy, repo string) <-chan error {
	return startAs(ctx, s, l, Options{Repo: repo})
}

// startAs is start with options, of which it fills in those that are the same in all tests.
func startAs(ctx context.Context, s *server.Server, l *link.Proxy, opt Options) <-chan error {
	opt.Server, opt.Depth, opt.RetryFor = client.Options{Address: "http://" + l.Address(), Token: s.Token}, -1, time.Hour
	ended := make(chan error, 1)
	go func() {
		_, err := Run(ctx, opt)
		ended <- err
	}()
	return ended
}

// wantOnePublished fails unless head was published, by one session, and no session is
// left.
func wantOnePublished(t *testing.T, s *server.Server, head string) {
	t.Helper()
	if s.Ref(testRef) != head {
		t.Errorf("ref at %q, want %s", s.Ref(testRef), head)
	}
	c, err := client.New(s.URL, s.Token)
	must.OK(t, err)
	defer c.Close()
	all, err := c.Sessions(t.Context(), "")
	must.OK(t, err)
	states := map[string]int{}
	for _, session := range all {
		states[session.State]++
	}
	if states[wire.Published] != 1 || states[wire.Published]+states[wire.Aborted] != len(all) {
		t.Errorf("sessions %v", states)
	}
}

// Two equal pushes: one sends and the other waits, whether the second begins in the
// middle or at the same moment. Both succeed, and hardly a byte goes twice.
func TestEqualPushes(t *testing.T) {
	for name, at := range map[string]int64{"in the middle": rivalPayload / 4, "at the same moment": 0} {
		t.Run(name, func(t *testing.T) {
			repo, head := rivalRepo(t)
			s := server.Start(t, ostree.ModeArchive)
			l := linkTo(t, s, 3_000_000)
			begin := make(chan bool)
			if at > 0 {
				l.At(at, func() { close(begin) })
			} else {
				close(begin)
			}
			opt := Options{Repo: repo, glance: must.Patience}
			first := startAs(t.Context(), s, l, opt)
			<-begin
			second := startAs(t.Context(), s, l, opt)
			must.OK(t, <-first)
			must.OK(t, <-second)
			wantOnePublished(t, s, head)
			if most := int64(rivalPayload * 115 / 100); l.Delivered() > most {
				t.Errorf("%d bytes delivered for %d", l.Delivered(), rivalPayload)
			}
		})
	}
}

// A push that is to take over sends while the first one, which runs, gives way and waits:
// both succeed, and hardly a byte goes twice.
func TestTakeOver(t *testing.T) {
	repo, head := rivalRepo(t)
	s := server.Start(t, ostree.ModeArchive)
	one, two := linkTo(t, s, 3_000_000), linkTo(t, s, 3_000_000)
	begin, taken := make(chan bool), make(chan bool)
	one.At(rivalPayload/4, func() {
		close(begin)
		<-taken
	})
	two.At(rivalPayload/4, func() { close(taken) })
	first := start(t.Context(), s, one, repo)
	<-begin
	second := startAs(t.Context(), s, two, Options{Repo: repo, TakeOver: true})
	must.OK(t, <-second)
	must.OK(t, <-first)
	wantOnePublished(t, s, head)
	if one.Delivered() > rivalPayload*3/4 {
		t.Errorf("the first delivered %d and the second %d bytes of %d", one.Delivered(), two.Delivered(), rivalPayload)
	}
	if sent := one.Delivered() + two.Delivered(); sent > rivalPayload*150/100 {
		t.Errorf("%d and %d bytes delivered for %d", one.Delivered(), two.Delivered(), rivalPayload)
	}
}

// A push that falls silent is replaced by an equal one. When it comes back it gives
// way: both succeed, and the two do not cut each other.
func TestSilentPushGivesWay(t *testing.T) {
	repo, head := rivalRepo(t)
	s := server.Start(t, ostree.ModeArchive)
	one, two := linkTo(t, s, 3_000_000), linkTo(t, s, 1_500_000)
	dark := make(chan bool)
	one.At(rivalPayload/4, func() {
		one.BlackHole(true)
		close(dark)
	})
	first := start(client.WithStall(t.Context(), time.Second), s, one, repo)
	<-dark
	back := make(chan bool)
	two.At(rivalPayload/4, func() {
		one.BlackHole(false)
		close(back)
	})
	second := start(t.Context(), s, two, repo)
	<-back
	must.OK(t, <-second)
	must.OK(t, <-first)
	wantOnePublished(t, s, head)
	// The quarter before the dark may come again, and what either had under way then.
	if sent := one.Delivered() + two.Delivered(); sent > rivalPayload*150/100 {
		t.Errorf("%d and %d bytes delivered for %d", one.Delivered(), two.Delivered(), rivalPayload)
	}
}
