// SPDX-License-Identifier: AGPL-3.0-or-later

package receive_test

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/server"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/must"
	ts "github.com/lirios/ostree-upload/test/server"
)

// FuzzRequests plays what the fuzzer draws.
func FuzzRequests(f *testing.F) {
	s := ts.Start(f, "archive")
	s.API.Unshared()
	random := rand.New(rand.NewPCG(1, 2))
	for range 10 {
		f.Add(randomBytes(random, 200))
	}
	p := newPlayer(f, s)
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := p.play(&dice{b}); err != nil {
			t.Fatal(err)
		}
	})
}

func randomBytes(random *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(random.Uint32())
	}
	return b
}

// Requests of all kinds, most of them spoilt, never make the server fail: no answer says
// so, none is missing; no file comes to be outside of the state folder and of the
// objects and refs that are pushed; and once all sessions have ended, nothing is left of
// them. REQUESTS says how many, and SEED which.
func TestSpoiltRequests(t *testing.T) {
	s := ts.Start(t, "archive")
	s.API.Unshared()
	files := outside(t, s)
	playAll(t, s, 100, 1) // what stays after the first ones is no leak
	abortAll(t, s)
	waitAnswered(t)
	open, running := descriptors(t), runtime.NumGoroutine()
	seed := number(t, "SEED", int(rand.Uint32()))
	t.Logf("SEED=%d", seed)
	played := playAll(t, s, number(t, "REQUESTS", 2000), uint64(seed))
	for _, kind := range []string{"push", "info", "refs", "list", "get", "lookup", "negotiate", "finalize", "abort", "options", "healthz"} {
		if played[kind+" 2"] == 0 {
			t.Errorf("no success of %s", kind)
		}
	}
	if s.Ref("os/fuzz/0") == "" {
		t.Error("nothing was published")
	}
	abortAll(t, s)
	waitAnswered(t)
	must.Wait(t, "no goroutine is left", func() bool { return runtime.NumGoroutine() <= running })
	must.Wait(t, "no descriptor is left", func() bool { return descriptors(t) <= open })
	if now := outside(t, s); !slices.Equal(now, files) {
		t.Errorf("files outside of the state folder: %v, before %v", now, files)
	}
	wantTidy(t, s)
}

// playAll plays so many requests, over some connections at once, and counts how sound
// ones were answered.
func playAll(t *testing.T, s *ts.Server, requests int, seed uint64) map[string]int {
	t.Helper()
	const players = 4
	all := make([]*player, players)
	var g errgroup.Group
	for i := range all {
		p := newPlayer(t, s)
		all[i] = p
		random := rand.New(rand.NewPCG(seed, uint64(i)))
		g.Go(func() error {
			for p.requests < requests/players {
				if err := p.play(&dice{randomBytes(random, 200)}); err != nil {
					return err
				}
			}
			return nil
		})
	}
	must.OK(t, g.Wait())
	played := make(map[string]int)
	for _, p := range all {
		p.hangUp()
		for kind, n := range p.played {
			played[kind] += n
		}
	}
	t.Logf("%v", played)
	return played
}

func number(t *testing.T, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	must.OK(t, err)
	return n
}

// outside lists the files around the repository but those of the state folder, of
// objects and of refs.
func outside(t *testing.T, s *ts.Server) (files []string) {
	t.Helper()
	root := filepath.Dir(s.Repo)
	must.OK(t, filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if path == s.State || path == filepath.Join(s.Repo, "objects") || path == filepath.Join(s.Repo, "refs/heads") {
			return fs.SkipDir
		}
		if err == nil && !e.IsDir() {
			files = append(files, path)
		}
		return err
	}))
	return files
}

// waitAnswered waits until no goroutine works on a request or on what came by one.
func waitAnswered(t *testing.T) {
	t.Helper()
	stacks := make([]byte, 4<<20)
	must.Wait(t, "no goroutine works on a request", func() bool {
		now := stacks[:runtime.Stack(stacks, true)]
		for _, work := range []string{"net/http.(*conn)", "tusd/v2/pkg/handler.", "tusstore.(*worker)", "publish.(*Publisher).await"} {
			if bytes.Contains(now, []byte(work)) {
				return false
			}
		}
		return true
	})
}

func descriptors(t *testing.T) int {
	t.Helper()
	open, err := os.ReadDir("/proc/self/fd")
	must.OK(t, err)
	return len(open)
}

// abortAll ends all sessions that have not ended.
func abortAll(t *testing.T, s *ts.Server) {
	t.Helper()
	boss := s.Client(s.Admin).Over(&http.Transport{DisableKeepAlives: true})
	must.Wait(t, "all sessions have ended", func() bool {
		left := 0
		for _, state := range []string{wire.Open, wire.Verifying, wire.Publishing} {
			var list wire.SessionList
			must.OK(t, json.Unmarshal(boss.Want(200, "GET", "/api/v1/sessions?limit=1000&state="+state, nil).Body, &list))
			for _, session := range list.Sessions {
				boss.Do("DELETE", "/api/v1/sessions/"+session.ID, nil) // it may have ended meanwhile
			}
			left += len(list.Sessions)
		}
		return left == 0
	})
}

// wantTidy looks at the state folder of a server all of whose sessions have ended: once
// it is cleaned, no upload and no object is left, and the journal agrees.
func wantTidy(t *testing.T, s *ts.Server) {
	t.Helper()
	must.Wait(t, "no staged object is left", func() bool {
		_, err := s.Clean(t.Context())
		must.OK(t, err)
		return len(filesBelow(t, filepath.Join(s.State, "staged/objects"))) == 0
	})
	if left := filesBelow(t, filepath.Join(s.State, "uploads")); len(left) > 0 {
		t.Errorf("uploads are left: %v", left)
	}
	s.Stop()
	report, err := server.Check(t.Context(), server.Options{Repo: s.Repo, State: s.State, Settings: config.Default, Log: ts.Logger(t)}, false)
	must.OK(t, err)
	if len(report.Findings)+len(report.Notes) > 0 {
		t.Errorf("check finds %q and notes %q", report.Findings, report.Notes)
	}
	s.Run()
}

func filesBelow(t *testing.T, dir string) (files []string) {
	t.Helper()
	must.OK(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && (!e.IsDir() || strings.Count(path, "/") == strings.Count(dir, "/")+1 && strings.HasSuffix(dir, "uploads")) {
			files = append(files, path)
		}
		return err
	}))
	return files
}
