// SPDX-License-Identifier: AGPL-3.0-or-later

package browser

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/chrome"
	"github.com/lirios/ostree-upload/test/must"
	ts "github.com/lirios/ostree-upload/test/server"
	"github.com/lirios/ostree-upload/test/site"
)

// The crowd: so many sessions in all, so many of which are sending all the time, each so
// many bytes at so many times a second.
const (
	sessions = 1000
	sending  = 50
	grain    = 2 << 10
	often    = 4
)

// watch is how long the processor's time of the server is counted.
const watch = time.Minute

// TestCrowd shows a thousand sessions, of which fifty are sending. With CROWD=measure it
// tells how long the page takes until it can be used, and what an open one costs the
// server; it takes some minutes then.
func TestCrowd(t *testing.T) {
	if os.Getenv("CROWD") != "measure" {
		t.Skip("takes minutes: CROWD=measure go test -v -run TestCrowd ./test/browser")
	}
	browser, err := chrome.Start()
	must.OK(t, err)
	t.Cleanup(func() { must.OK(t, browser.End()) })
	s := newSite(t, "limits: {max-sessions: 0, min-free-space: 0}")
	boss := newToken(s, "boss", "--scope", "admin")
	gather(t, s)

	v := visit(t, browser, s.URL)
	v.signIn(boss)
	for _, path := range []string{"", "page/sessions", "page/sessions?limit=1000", "page/refs", "page/tokens"} {
		var took []float64
		for range 21 {
			v.open(path)
			took = append(took, v.ask(`performance.getEntriesByType("navigation")[0].domContentLoadedEventEnd`))
		}
		slices.Sort(took)
		t.Logf("/%s can be used after %.0f ms at best of 21, %.0f ms in the middle, %.0f ms at worst", path, took[0], took[10], took[20])
	}
	v.open("")
	v.await(`document.querySelector("#state.live")`)
	v.await(fmt.Sprintf(`document.querySelectorAll("#under-way tbody tr").length === %d`, sending))
	with := cost(t, s)
	must.OK(t, v.tab.Go("about:blank"))
	without := cost(t, s)
	t.Logf("of a core the server takes %.2f%% with a page open, %.2f%% without: the page costs %.2f%%", with, without, with-without)
}

// cost is the part of a core that the server takes for a while, in percent.
func cost(t *testing.T, s *site.Site) float64 {
	t.Helper()
	before, began := worked(t, s.Server.Process.Pid), time.Now()
	time.Sleep(watch) // it is what is measured
	return 100 * (worked(t, s.Server.Process.Pid) - before).Seconds() / time.Since(began).Seconds()
}

// worked is how long a process has had a processor.
func worked(t *testing.T, pid int) time.Duration {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	must.OK(t, err)
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	var ticks int64
	for _, field := range fields[11:13] { // utime and stime, in hundredths of a second
		n, err := strconv.ParseInt(field, 10, 64)
		must.OK(t, err)
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// gather makes the sessions, most of which were aborted, and has the others send until
// the test ends.
func gather(t *testing.T, s *site.Site) {
	t.Helper()
	api := s.API()
	var wg sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	t.Cleanup(func() {
		stop()
		wg.Wait()
	})
	for i := range sessions {
		commit := sha256.Sum256([]byte(fmt.Sprint("commit", i)))
		opened, err := api.OpenSession(t.Context(), wire.OpenRequest{Refs: []wire.Ref{{
			Ref: fmt.Sprintf("apps/org.example.App%d/x86_64/stable", i), New: hex.EncodeToString(commit[:])}}})
		must.OK(t, err)
		if i < sessions-sending {
			_, err := api.Abort(t.Context(), opened.ID)
			must.OK(t, err)
			continue
		}
		c := ts.NewClient(t, "http://"+s.Server.Address, s.Token)
		if a := c.Create(wire.MaxPack, ts.Metadata("session", opened.ID, "pack", "slow")); a.Status != 201 {
			t.Fatalf("status %d: %s", a.Status, a.Body)
		}
		wg.Go(func() {
			a, err := c.TryReader("PATCH", "/files/"+opened.ID+"/slow", trickle{ctx}, "Tus-Resumable", "1.0.0",
				"Content-Type", "application/offset+octet-stream", "Upload-Offset", "0")
			if ctx.Err() == nil {
				t.Errorf("a session of the crowd has stopped: %d %s %v", a.Status, a.Body, err)
			}
		})
	}
}

// trickle is zeros that come slowly, until its context ends.
type trickle struct{ ctx context.Context }

func (t trickle) Read(b []byte) (int, error) {
	select {
	case <-t.ctx.Done():
		return 0, t.ctx.Err()
	case <-time.After(time.Second / often):
	}
	n := min(grain, len(b))
	clear(b[:n])
	return n, nil
}
