// SPDX-License-Identifier: AGPL-3.0-or-later

package server_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/libostree"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/server"
	"github.com/lirios/ostree-upload/internal/token"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/idp"
	"github.com/lirios/ostree-upload/test/must"
	ts "github.com/lirios/ostree-upload/test/server"
)

// A host is a server whose configuration is a file, one line for each key.
type host struct {
	t       *testing.T
	dir     string
	lines   map[string]string
	token   string
	build   string
	commits []ostree.Checksum // for the ref x
	issuer  *idp.Issuer       // of ID tokens
	below   string            // the path of the repository, if there are several
	log     *lockedLog
	file    *config.File

	*server.Server
	address string
	page    string // the address of the page alone, "" for none
	stop    func()
}

func newHost(t *testing.T, build string, commits []ostree.Checksum, below string) *host {
	h := &host{t: t, dir: t.TempDir(), build: build, commits: commits, issuer: idp.Start(t), below: below}
	for _, repo := range []string{"prod", "other"} {
		must.OK(t, os.Mkdir(h.path(repo), 0o755))
		must.OK(t, libostree.Init(h.path(repo), "archive"))
	}
	plain, made := token.Generate(token.Options{Name: "ci"})
	h.token = plain
	h.lines = map[string]string{
		"repo": h.path("prod"), "state": h.path("state"), "address": "127.0.0.1:0", "grace": "1s",
		"tokens": fmt.Sprintf("[{name: ci, sha256: %s}]", made.SHA256),
	}
	h.write()
	h.start()
	t.Cleanup(func() { h.stop() })
	return h
}

func (h *host) path(name string) string { return filepath.Join(h.dir, name) }

// write writes the configuration file anew, with other lines.
func (h *host) write() {
	h.t.Helper()
	var text, repository strings.Builder
	for _, key := range slices.Sorted(maps.Keys(h.lines)) {
		if h.below != "" && isRepositoryKey(key) {
			fmt.Fprintf(&repository, "    %s: %s\n", key, strings.ReplaceAll(h.lines[key], "\n", "\n    "))
			continue
		}
		fmt.Fprintf(&text, "%s: %s\n", key, h.lines[key])
	}
	if h.below != "" {
		fmt.Fprintf(&text, "repositories:\n  %s:\n%s", h.below[1:], repository.String())
	}
	must.OK(h.t, os.WriteFile(h.path("new"), []byte(text.String()), 0o600))
	must.OK(h.t, os.Rename(h.path("new"), h.path("config.yaml")))
}

// isRepositoryKey tells a key that belongs to one repository.
func isRepositoryKey(key string) bool {
	return slices.ContainsFunc(config.RepositoryKeys(), func(k string) bool { return k == key || strings.HasPrefix(k, key+".") })
}

func (h *host) start() {
	h.t.Helper()
	h.log = &lockedLog{out: h.t.Output()}
	written, err := config.Load(h.path("config.yaml"))
	must.OK(h.t, err)
	log := server.NewLog(h.log, written.LogFormat, slog.LevelInfo)
	file, err := config.OpenFile(h.path("config.yaml"), log)
	must.OK(h.t, err)
	h.file = file
	c := file.Current()
	l, err := server.Listen(c.Address, c.TLS)
	must.OK(h.t, err)
	h.address = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	opt := server.Options{MetricsAddress: c.MetricsAddress, Settings: file.Current, Log: log}
	if c.Repositories != nil {
		opened := make(chan *server.Server)
		go func() { ended <- server.RunSeveral(ctx, opt, l, func(s *server.Server) { opened <- s }) }()
		h.Server = <-opened
	} else {
		opt.At(&c.Repository)
		h.Server, err = server.Open(ctx, opt)
		must.OK(h.t, err)
		running := h.Server
		h.page = ""
		if c.PageAddress != "" {
			h.page, err = running.ListenForPage(c.PageAddress)
			must.OK(h.t, err)
		}
		go func() {
			err := running.Run(ctx, l)
			ended <- errors.Join(err, running.Close(err == nil))
		}()
	}
	h.stop = func() {
		cancel()
		must.OK(h.t, <-ended)
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
		h.stop = func() {}
	}
}

func (h *host) client() *ts.Client { return ts.NewClient(h.t, "http://"+h.address+h.below, h.token) }

// open opens a session that moves the ref to the next commit, announced.
func (h *host) open() (s wire.Session, lacking []ostree.Name) {
	h.t.Helper()
	b, err := os.ReadFile(h.path("prod/refs/heads/x"))
	at := -1
	if err == nil {
		c, err := ostree.ParseChecksum(strings.TrimSpace(string(b)))
		must.OK(h.t, err)
		at = slices.Index(h.commits, c)
	}
	next := h.commits[at+1]
	s = h.client().Open(wire.Ref{Ref: "x", Old: strings.TrimSpace(string(b)), New: next.String()})
	return s, h.client().Negotiate(s.ID, ts.Objects(h.t, h.build, next)...)
}

// publish moves the ref to the next commit.
func (h *host) publish() {
	h.t.Helper()
	s, lacking := h.open()
	h.client().Upload(s.ID, "all", ts.Pack(h.t, h.build, lacking...))
	if got := h.client().Finalize(s.ID); got.State != wire.Published {
		h.t.Fatalf("not published: %+v", got)
	}
}

// create is the status of the creation of an upload.
func (h *host) create() int {
	h.t.Helper()
	s, _ := h.open()
	return h.client().Create(2000, ts.Metadata("session", s.ID, "pack", "p")).Status
}

// openMany is the status of the opening of a session of so many refs.
func (h *host) openMany(refs int) int {
	h.t.Helper()
	open := wire.OpenRequest{}
	for i := range refs {
		open.Refs = append(open.Refs, wire.Ref{Ref: fmt.Sprint("many/", i), New: h.commits[0].String()})
	}
	b, err := json.Marshal(open)
	must.OK(h.t, err)
	return h.client().Do("POST", "/api/v1/sessions", b).Status
}

// sessions counts those that are listed.
func (h *host) sessions() int {
	h.t.Helper()
	var list wire.SessionList
	must.OK(h.t, json.Unmarshal(h.client().Want(200, "GET", "/api/v1/sessions", nil).Body, &list))
	return len(list.Sessions)
}

// lockedLog is the log of a server, which a test may read while it runs.
type lockedLog struct {
	out  io.Writer
	mu   sync.Mutex
	text strings.Builder
}

func (l *lockedLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Write(b)
	return l.out.Write(b)
}

func (l *lockedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
