// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package system

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/site"
)

// Clients pull from a web server over the repository while pushes of two refs go
// on. What they get is a commit of one push, old or new, for each ref, and whole.
// Who reads the summary sees both refs of one push.
func TestReaders(t *testing.T) {
	t.Parallel()
	const pushes, clients = 6, 2
	s, w := site.New(t), site.NewTwin(t, 40)
	w.Next()
	s.Push(&w.Build)
	web := httptest.NewServer(http.FileServer(http.Dir(s.Prod)))
	t.Cleanup(web.Close)
	r := &readers{loops: newLoops(), url: web.URL}
	for i := range clients {
		r.start(fmt.Sprint("client ", i), r.puller(t, i))
	}
	r.start("reader of the summary", r.summary)
	for range pushes {
		w.Next()
		s.Push(&w.Build)
	}
	r.end(t)
	r.judge(t, w)
	w.Arrived(s)
}

// readers read until the pushes are over, and once more.
type readers struct {
	*loops
	url string

	mu        sync.Mutex
	pulled    [][]string // commits of TwoRefs, as one pull got them
	summaries [][]byte   // the different ones, in their order
}

// puller is an OSTree client: each call pulls both refs and checks all that the
// client has.
func (r *readers) puller(t *testing.T, i int) func() error {
	t.Helper()
	repo := filepath.Join(t.TempDir(), fmt.Sprint("client", i))
	must.OSTree(t, "init", "--repo="+repo, "--mode=archive")
	must.OSTree(t, "remote", "add", "--repo="+repo, "--no-gpg-verify", "origin", r.url)
	return func() error {
		pull := []string{"pull", "--disable-fsync", "--repo=" + repo, "origin"}
		if _, err := site.OSTree(append(pull, site.TwoRefs...)...); err != nil {
			return err
		}
		var got []string
		for _, ref := range site.TwoRefs {
			commit, err := site.OSTree("rev-parse", "--repo="+repo, "origin:"+ref)
			if err != nil {
				return err
			}
			got = append(got, commit)
		}
		r.mu.Lock()
		r.pulled = append(r.pulled, got)
		r.mu.Unlock()
		if out, err := site.Fsck(repo); err != nil {
			return fmt.Errorf("ostree fsck: %w\n%s", err, out)
		}
		return nil
	}
}

// summary reads the summary.
func (r *readers) summary() error {
	resp, err := http.Get(r.url + "/summary")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return fmt.Errorf("summary: %s, %w", resp.Status, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.summaries); n == 0 || !bytes.Equal(r.summaries[n-1], b) {
		r.summaries = append(r.summaries, b)
	}
	return nil
}

// judge compares what was read with what was pushed.
func (r *readers) judge(t *testing.T, w *site.Twin) {
	t.Helper()
	seen := map[int]bool{}
	for _, got := range r.pulled {
		for i, commit := range got {
			at := slices.IndexFunc(w.Heads, func(heads []string) bool { return heads[i] == commit })
			if at < 0 {
				t.Errorf("a client has %s at %s, which was never pushed to it", site.TwoRefs[i], commit)
			}
			seen[at] = true
		}
	}
	if !seen[len(w.Heads)-1] {
		t.Error("no client has the last push")
	}
	for i, b := range r.summaries {
		devel, stable := inSummary(t, w, b, 0), inSummary(t, w, b, 1)
		if len(devel) != 1 || !slices.Equal(devel, stable) {
			t.Errorf("summary %d names %s of pushes %v and %s of pushes %v", i, site.TwoRefs[0], devel, site.TwoRefs[1], stable)
		}
	}
	t.Logf("%d pulls saw %d of %d pushes, %d summaries", len(r.pulled), len(seen), len(w.Heads), len(r.summaries))
}

// inSummary lists the pushes of which a summary names the commit of a ref.
func inSummary(t *testing.T, w *site.Twin, summary []byte, ref int) (pushes []int) {
	t.Helper()
	for i, heads := range w.Heads {
		sum, err := hex.DecodeString(heads[ref])
		must.OK(t, err)
		if bytes.Contains(summary, sum) {
			pushes = append(pushes, i)
		}
	}
	return pushes
}
