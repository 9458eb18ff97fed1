// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package system

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/site"
)

// Clients pull all refs of two repositories of one server, while pushes to both go on, a
// third one comes and goes, and the configuration is read again. What they get is whole.
func TestReadersOfTwoRepositories(t *testing.T) {
	t.Parallel()
	const pushes = 4
	s := site.At(t, t.TempDir())
	must.OK(t, os.WriteFile(s.Config(), []byte("repositories: {os: {repo: os}, apps: {repo: apps}, third: {repo: third}}\n"), 0o600))
	s.MakeToken()
	r, err := site.StartReceiver(s.Dir, os.Environ(), "--init")
	must.OK(t, err)
	t.Cleanup(r.Kill)
	web := httptest.NewServer(http.FileServer(http.Dir(s.Dir)))
	t.Cleanup(web.Close)

	loops := newLoops()
	parts := map[string]*part{}
	for _, name := range []string{"os", "apps"} {
		p := &part{Site: *s, Twin: site.NewTwin(t, 20), readers: &readers{loops: loops, url: web.URL + "/" + name}}
		p.Prod, p.URL = filepath.Join(s.Dir, name), "http://"+r.Address+"/"+name
		p.push()
		loops.start("client of "+name, p.puller(t, 0))
		parts[name] = p
	}
	for range pushes {
		must.OK(t, os.Rename(filepath.Join(s.Dir, "third"), filepath.Join(s.Dir, "away")))
		for _, p := range parts {
			p.push()
		}
		must.OK(t, os.Rename(filepath.Join(s.Dir, "away"), filepath.Join(s.Dir, "third")))
		must.OK(t, r.Process.Signal(syscall.SIGHUP))
	}
	loops.end(t)
	must.OK(t, r.Stop())
	for _, p := range parts {
		p.judge(t, p.Twin)
		p.Arrived(&p.Site)
		if out, err := site.Fsck(p.Prod); err != nil {
			t.Errorf("ostree fsck: %v\n%s", err, out)
		}
	}
	s.Run("check").Must(t, 0)
}

// part is one of the repositories, with its builds and readers.
type part struct {
	site.Site
	*site.Twin
	*readers
}

func (p *part) push() {
	p.Next()
	p.Push(&p.Build)
}
