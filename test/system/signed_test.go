// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package system

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/test/gpg"
	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/site"
)

// Clients that take nothing unsigned pull through a web server, in loops, while pushes
// come one after the other. A read fails only if the summary changed during it, and says
// so; the next one that no change comes upon succeeds. In the end each client has what was
// pushed last. With CRASH=full there are 100 pushes.
func TestSignedReaders(t *testing.T) {
	t.Parallel()
	pushes := 10
	if site.Full() {
		pushes = 100
	}
	k := gpg.New(t)
	s := site.At(t, t.TempDir())
	s.MakeToken()
	s.Configure("sign: {gpg: " + k.Settings(0) + ", commits: true}")
	t.Cleanup(s.End)
	s.Start("--init")
	w := site.NewTwin(t, 4)
	w.Next()
	s.Push(&w.Build)
	web := httptest.NewServer(http.FileServer(http.Dir(s.Prod)))
	t.Cleanup(web.Close)
	readers, all := newLoops(), []*signedReader{}
	for _, env := range []string{"", "OSTREE_SKIP_CACHE=1"} {
		r := &signedReader{prod: s.Prod, repo: k.Client(web.URL, 0, "gpg-verify-summary=true"), env: env}
		all = append(all, r)
		readers.start("reader "+env, r.read)
	}
	for range pushes {
		w.Next()
		s.Push(&w.Build)
	}
	readers.end(t)
	for _, r := range all {
		t.Logf("%q: %d pulls, %d of them came upon a change, at most %d after each other", r.env, r.pulls, r.failed, r.most)
		if got := must.OSTree(t, "rev-parse", "--repo="+r.repo, "prod:"+site.TwoRefs[0]); got != w.Heads[len(w.Heads)-1][0] {
			t.Errorf("%q: the client has %s", r.env, got)
		}
	}
}

// Another program writes the summary again and again beside pushes, with the server's key
// and without one: each push succeeds, and soon after, what clients find is signed, and
// names what was pushed last.
func TestSummaryIsRewritten(t *testing.T) {
	t.Parallel()
	k := gpg.New(t)
	s := site.At(t, t.TempDir())
	s.MakeToken()
	s.Configure("sign: {gpg: " + k.Settings(0) + "}")
	t.Cleanup(s.End)
	s.Start("--init")
	others, n := newLoops(), 0
	others.start("another program", func() error {
		if n++; n%2 == 0 {
			return k.SignSummary(s.Prod, 0)
		}
		_, err := site.OSTree("summary", "--repo="+s.Prod, "--update")
		return err
	})
	w := site.NewTwin(t, 4)
	for range 4 {
		w.Next()
		s.Push(&w.Build)
	}
	others.end(t)
	reader := k.SummaryReader(s.Prod, 0)
	must.Wait(t, "the summary is signed, with the last push", func() bool {
		shown, err := site.OSTree("summary", "--repo="+s.Prod, "--view")
		return err == nil && strings.Contains(shown, w.Heads[len(w.Heads)-1][1]) && reader.Read() == nil
	})
}

// A signedReader pulls by the signed summary. One with a cache goes on with the pair that
// it knows until it gets another signature.
type signedReader struct {
	prod, repo, env     string
	pulls, failed, most int
	inRow               int
}

func (r *signedReader) read() error {
	before := r.pair()
	cmd := exec.Command("ostree", append([]string{"pull", "--disable-fsync", "--repo=" + r.repo, "prod"}, site.TwoRefs...)...)
	cmd.Env = append(os.Environ(), r.env)
	out, err := cmd.CombinedOutput()
	r.pulls++
	if err == nil {
		r.inRow = 0
		return nil
	}
	if bytes.Equal(before, r.pair()) || !strings.Contains(string(out), "BAD signature") {
		return fmt.Errorf("%w\n%s", err, out)
	}
	r.failed++
	r.inRow++
	r.most = max(r.most, r.inRow)
	return r.read()
}

// pair is the summary with its signature, as they are now; while they change it is that
// of neither.
func (r *signedReader) pair() []byte {
	summary, err := os.ReadFile(filepath.Join(r.prod, "summary"))
	signature, failed := os.ReadFile(filepath.Join(r.prod, "summary.sig"))
	if err != nil || failed != nil {
		return nil
	}
	return append(summary, signature...)
}
