// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package system

import (
	"crypto/rand"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/lirios/ostree-upload/test/must"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
	ts "github.com/lirios/ostree-upload/test/server"
)

// Clients of tus that others wrote upload an object, through a proxy that has
// a path of its own and loses the answer to their first creation. Each of them then
// creates again, and follows Location.
func TestTusClients(t *testing.T) {
	scripts, err := filepath.Abs("testdata/tusclients")
	must.OK(t, err)
	node := nodeModules(t, scripts)
	for name, c := range map[string]struct {
		program string
		skip    string // why it cannot run here
	}{
		"tus-js-client.mjs": {"node", node.missing},
		"uppy.mjs":          {"node", node.missing},
		"tuspy.py":          {"/usr/bin/python3", missing("/usr/bin/python3", "-c", "import tusclient")},
		"curl.sh":           {"sh", missing("curl", "--version")},
	} {
		t.Run(name, func(t *testing.T) {
			if c.skip != "" {
				t.Skip(c.skip)
			}
			script := filepath.Join(scripts, name)
			if c.program == "node" {
				script = filepath.Join(node.dir, name)
			}
			uploadBy(t, c.program, script)
		})
	}
}

// uploadBy has a client upload an object, and fails unless the server then has it.
func uploadBy(t *testing.T, program, script string) {
	repo, tree := filepath.Join(t.TempDir(), "repo"), t.TempDir()
	content := make([]byte, 3_000_000) // does not compress
	rand.Read(content)
	must.OK(t, os.WriteFile(filepath.Join(tree, "file"), content, 0o644))
	must.OSTree(t, "init", "--repo="+repo, "--mode=archive")
	commit, err := ostree.ParseChecksum(strings.TrimSpace(must.OSTree(t, "commit", "--repo="+repo, "-b", "x", "--tree=dir="+tree)))
	must.OK(t, err)
	var file ostree.Name
	for _, n := range ts.Objects(t, repo, commit) {
		if n.Type == ostree.File {
			file = n
		}
	}
	s := ts.Start(t, "archive")
	c := s.Client(s.Token)
	session := c.Open(wire.Ref{Ref: "x", New: commit.String()})
	c.Negotiate(session.ID, file)
	path := filepath.Join(t.TempDir(), "object")
	must.OK(t, os.WriteFile(path, ts.Object(t, repo, file), 0o600))

	endpoint, creations := losingProxy(t, s.URL)
	out, err := exec.CommandContext(t.Context(), program, script, endpoint, s.Token, session.ID, file.String(), path).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if lacking := c.Negotiate(session.ID, file); len(lacking) != 0 || creations.Load() != 2 {
		t.Errorf("%d creations, lacking %v\n%s", creations.Load(), lacking, out)
	}
}

// losingProxy serves target below a path, as a proxy does that tells it nothing of
// itself, and breaks the first creation off after the server has answered it.
func losingProxy(t *testing.T, target string) (endpoint string, creations *atomic.Int32) {
	t.Helper()
	to, err := url.Parse(target)
	must.OK(t, err)
	creations = new(atomic.Int32)
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Path = strings.TrimPrefix(r.In.URL.Path, "/upload")
			r.SetURL(to)
		},
		ModifyResponse: func(res *http.Response) error {
			if res.Request.Method == "POST" && creations.Add(1) == 1 {
				panic(http.ErrAbortHandler)
			}
			return nil
		},
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must.OK(t, err)
	front := &http.Server{Handler: proxy}
	go front.Serve(l)
	t.Cleanup(func() { front.Close() })
	return "http://" + l.Addr().String() + "/upload/files/", creations
}

// modules are the clients that Node runs, in a folder with what they import.
type modules struct{ dir, missing string }

// nodeModules installs them, from the registry that npm is set to.
func nodeModules(t *testing.T, scripts string) modules {
	t.Helper()
	if why := missing("npm", "--version"); why != "" {
		return modules{missing: why}
	}
	dir := t.TempDir()
	must.OK(t, os.CopyFS(dir, os.DirFS(scripts)))
	cmd := exec.CommandContext(t.Context(), "npm", "install", "--no-audit", "--no-fund", "--fetch-retries=0")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return modules{missing: "npm install: " + err.Error() + ": " + strings.TrimSpace(string(out))}
	}
	return modules{dir: dir}
}

// missing says why a command cannot run here, "" if it can.
func missing(name string, args ...string) string {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return name + ": " + err.Error() + ": " + strings.TrimSpace(string(out))
	}
	return ""
}
