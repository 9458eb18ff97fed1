// SPDX-License-Identifier: AGPL-3.0-or-later

package server_test

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptrace"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/libostree"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/server"
	"github.com/lirios/ostree-upload/internal/token"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/gpg"
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
		opt.Repo, opt.State = c.Repo, c.StateFolder()
		h.Server, err = server.Open(ctx, opt)
		must.OK(h.t, err)
		running := h.Server
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

// A setting is another value for a key, and how it shows in a server.
type setting struct {
	line, value string
	look        func(h *host) string
}

var settings = map[string]setting{
	"repo":          {"repo", "other", func(h *host) string { return fmt.Sprint(h.hasRef()) }},
	"state":         {"state", "state2", func(h *host) string { return fmt.Sprint(h.sessions() > 0) }},
	"address":       {"address", "127.0.0.2:0", func(h *host) string { return strings.Split(h.address, ":")[0] }},
	"tls.cert":      {"tls", "{cert: cert.pem, key: key.pem}", (*host).secure},
	"tls.key":       {"tls", "{cert: cert.pem, key: key.pem}", (*host).secure},
	"tls.client-ca": {"tls", "{cert: cert.pem, key: key.pem, client-ca: cert.pem}", (*host).wantsCertificate},
	"summary": {"summary", "always", func(h *host) string {
		h.publish()
		_, err := os.Stat(h.path("prod/summary"))
		return fmt.Sprint(err == nil)
	}},
	"keep": {"keep", `[{refs: ["**"], depth: 0}]`, func(h *host) string {
		h.publish()
		would, err := h.Prune(h.t.Context(), h.file.Current().Served()[0].Keep, true)
		must.OK(h.t, err)
		return fmt.Sprint(would.Commits > 0)
	}},
	"sign.gpg.homedir":      {"sign", "gpg", (*host).signed},
	"sign.gpg.keys":         {"sign", "gpg", (*host).signed},
	"sign.ed25519.key-file": {"sign", "ed25519", (*host).signed},
	"sign.command":          {"sign", "{command: [sh, -c, head -c 64 /dev/zero]}", (*host).signed},
	"sign.commits":          {"sign", "{command: [sh, -c, head -c 64 /dev/zero], commits: true}", (*host).signed},
	"after": {"after", "[{command: ['true']}]", func(h *host) string {
		h.publish()
		list, err := h.Journal.Sessions(nil)
		must.OK(h.t, err)
		return fmt.Sprint(len(list[0].After))
	}},
	"policy":        {"policy", "[{ed25519: [AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=]}]", (*host).refused},
	"check-command": {"check-command", "['false']", (*host).refused},
	"check-timeout": {"check-timeout", "1ms\ncheck-command: [sleep, '60']", (*host).refused},
	"metrics-address": {"metrics-address", "127.0.0.1:0", func(h *host) string {
		return fmt.Sprint(h.client().Do("GET", "/metrics", nil).Status) // forbidden, or not there
	}},
	"log-format": {"log-format", "json", func(h *host) string {
		h.open()
		said := h.log.String()
		return fmt.Sprint(strings.LastIndex(said, `"msg":"session opened"`) > strings.LastIndex(said, `msg="session opened"`))
	}},
	"session-ttl": {"session-ttl", "1h", func(h *host) string {
		s, _ := h.open()
		return s.Expires.Sub(s.Created).String()
	}},
	"hold-ttl": {"hold-ttl", "1h", func(h *host) string {
		client := h.client()
		var s wire.Session
		body, err := json.Marshal(wire.OpenRequest{Hold: true, Refs: []wire.Ref{{Ref: "held", New: h.commits[0].String()}}})
		must.OK(h.t, err)
		must.OK(h.t, json.Unmarshal(client.Want(201, "POST", "/api/v1/sessions", body).Body, &s))
		client.Negotiate(s.ID, ts.Objects(h.t, h.build, h.commits[0])...)
		s = client.Finalize(s.ID)
		client.Want(200, "DELETE", "/api/v1/sessions/"+s.ID, nil)
		return s.Expires.Sub(s.Updated).Round(time.Minute).String()
	}},
	"history": {"history", "0", func(h *host) string {
		h.publish()
		_, err := h.Clean(h.t.Context())
		must.OK(h.t, err)
		return fmt.Sprint(h.sessions() > 0)
	}},
	"grace": {"grace", "2s", (*host).graceful},
	"limits.max-object-size": {"limits", "{max-object-size: 1B}", func(h *host) string {
		s, lacking := h.open()
		h.client().Upload(s.ID, "all", ts.Pack(h.t, h.build, lacking...))
		h.client().Negotiate(s.ID, lacking...) // waits until they are verified
		rejected := h.client().Session(s.ID).Objects.Rejected > 0
		h.client().Want(200, "DELETE", "/api/v1/sessions/"+s.ID, nil)
		_, err := h.Clean(h.t.Context()) // else the next look finds them staged
		must.OK(h.t, err)
		return fmt.Sprint(rejected)
	}},
	"limits.max-metadata-size": {"limits", "{max-metadata-size: 20B}", func(h *host) string {
		s, _ := h.open() // the commit is announced
		commit := ostree.Name{Checksum: h.commits[1], Type: ostree.CommitObject}
		return fmt.Sprint(h.client().Create(21, ts.Metadata("session", s.ID, "object", commit.String())).Status)
	}},
	"limits.max-session-size": {"limits", "{max-session-size: 1kB}", func(h *host) string { return fmt.Sprint(h.create()) }},
	"limits.max-reserved":     {"limits", "{max-reserved: 1kB}", func(h *host) string { return fmt.Sprint(h.create()) }},
	"limits.min-free-space":   {"limits", "{min-free-space: 1000TB}", func(h *host) string { return fmt.Sprint(h.openMany(1)) }},
	"limits.max-sessions":     {"limits", "{max-sessions: 1}", func(h *host) string { return fmt.Sprint(h.openMany(1), h.openMany(1)) }},
	"limits.max-refs":         {"limits", "{max-refs: 2}", func(h *host) string { return fmt.Sprint(h.openMany(3)) }},
	"limits.max-objects": {"limits", "{max-objects: 2}", func(h *host) string {
		s := h.client().Open(wire.Ref{Ref: "named", New: h.commits[0].String()})
		names := ts.Objects(h.t, h.build, h.commits[0])
		return fmt.Sprint(h.client().Do("POST", "/api/v1/sessions/"+s.ID+"/objects", wire.FormatNames(names)).Status)
	}},
	"oidc": {"oidc", "", func(h *host) string {
		job := ts.NewClient(h.t, "http://"+h.address, h.issuer.Sign(h.issuer.Job("https://repo.example.org")))
		return fmt.Sprint(job.Do("GET", "/api/v1/info", nil).Status)
	}},
	"base-path": {"base-path", "/below", func(h *host) string {
		return fmt.Sprint(h.client().Do("GET", "/below/api/v1/info", nil).Status)
	}},
	"trusted-proxies": {"trusted-proxies", "[127.0.0.1]", func(h *host) string {
		open, err := json.Marshal(wire.OpenRequest{Refs: []wire.Ref{{Ref: "elsewhere", New: h.commits[0].String()}}})
		must.OK(h.t, err)
		var s wire.Session
		must.OK(h.t, json.Unmarshal(h.client().Want(201, "POST", "/api/v1/sessions", open, "X-Forwarded-For", "203.0.113.9").Body, &s))
		kept, err := h.Journal.Session(s.ID)
		must.OK(h.t, err)
		return kept.Remote
	}},
	"repositories": {"repositories", "", func(h *host) string {
		return fmt.Sprint(h.client().Do("GET", "/other/healthz", nil).Status)
	}},
	"tokens": {"tokens", "[]", func(h *host) string {
		return fmt.Sprint(h.client().Do("GET", "/api/v1/info", nil).Status)
	}},
}

// refused is the code of a push that is refused, or nothing.
func (h *host) refused() string {
	h.t.Helper()
	s, lacking := h.open()
	h.client().Upload(s.ID, "all", ts.Pack(h.t, h.build, lacking...))
	return h.client().Finalize(s.ID).Error
}

func (h *host) hasRef() bool {
	return strings.Contains(string(h.client().Want(200, "GET", "/api/v1/refs", nil).Body), `"x"`)
}

// signed tells what a publish signed, and how.
func (h *host) signed() string {
	h.t.Helper()
	h.publish()
	var found []string
	for _, name := range []string{"summary.sig", "objects/*/*.commitmeta"} {
		paths, err := filepath.Glob(h.path("prod/" + name))
		must.OK(h.t, err)
		for _, path := range paths {
			b, err := os.ReadFile(path)
			must.OK(h.t, err)
			kind := regexp.MustCompile(`ostree\.(gpgsigs|sign\.ed25519)`).FindString(string(b))
			if strings.HasSuffix(path, "commitmeta") {
				kind += " of commits"
			}
			found = append(found, kind)
		}
	}
	return strings.Join(slices.Compact(found), ", ")
}

// secure tells whether the server wants HTTPS.
func (h *host) secure() string {
	h.t.Helper()
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	for _, scheme := range []string{"https", "http"} {
		res, err := c.Get(scheme + "://" + h.address + "/healthz")
		if err != nil {
			continue
		}
		must.OK(h.t, res.Body.Close())
		if res.StatusCode == 200 {
			return scheme
		}
	}
	h.t.Fatal("no answer")
	return ""
}

// wantsCertificate tells whether the server refuses who shows no certificate.
func (h *host) wantsCertificate() string {
	h.t.Helper()
	conn, err := tls.Dial("tcp", h.address, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}) // which tells in the handshake
	if err == nil {
		must.OK(h.t, conn.Close())
	}
	return fmt.Sprint(err != nil && strings.Contains(err.Error(), "remote error"))
}

// graceful stops the server while it reads a request, and tells how long it says
// that it waited; then it runs again.
func (h *host) graceful() string {
	h.t.Helper()
	reading := make(chan struct{})
	trace := &httptrace.ClientTrace{Got100Continue: func() { close(reading) }}
	body, w := io.Pipe()
	req, err := http.NewRequestWithContext(httptrace.WithClientTrace(h.t.Context(), trace), "POST", "http://"+h.address+"/api/v1/sessions", body)
	must.OK(h.t, err)
	req.Header.Set("Authorization", "Bearer "+h.token)
	req.Header.Set("Expect", "100-continue")
	done := make(chan struct{})
	go func() {
		defer close(done)
		if res, err := http.DefaultTransport.RoundTrip(req); err == nil {
			res.Body.Close()
		}
	}()
	<-reading
	h.stop()
	must.OK(h.t, w.CloseWithError(io.ErrUnexpectedEOF))
	<-done
	said := regexp.MustCompile(`grace=(\S+)`).FindAllStringSubmatch(h.log.String(), -1)
	if len(said) == 0 {
		h.t.Fatal("the request was not cut")
	}
	h.start()
	return said[len(said)-1][1]
}

// settingsPage reads from docs/operating.md when a change of each key counts: its
// table has rows of `key`, default and "at once" or "after a restart".
func settingsPage(t *testing.T) map[string]string {
	t.Helper()
	page, err := os.ReadFile("../../docs/operating.md")
	must.OK(t, err)
	when := make(map[string]string)
	for _, row := range regexp.MustCompile("(?m)^\\| `([-a-z0-9.]+)` \\|.*\\| (at once|after a restart) \\|$").FindAllStringSubmatch(string(page), -1) {
		when[row[1]] = row[2]
	}
	return when
}

// Each key of the configuration is in the table of docs/operating.md, and a change
// of it under a running server counts when the table says.
func TestSettings(t *testing.T) {
	when := settingsPage(t)
	if page, tested := slices.Sorted(maps.Keys(when)), slices.Sorted(maps.Keys(settings)); !reflect.DeepEqual(page, tested) {
		t.Fatalf("docs/operating.md has the keys\n%v, and these are tested:\n%v", page, tested)
	}
	if keys := config.Keys(); !reflect.DeepEqual(keys, slices.Sorted(maps.Keys(settings))) {
		t.Errorf("a configuration file has the keys %v", keys)
	}
	build := filepath.Join(t.TempDir(), "build")
	var commits []ostree.Checksum // each the parent of the next
	for i := range 6 {
		commits = append(commits, ts.Commit(t, build, "x", fmt.Sprint(i), 5))
	}
	for key, s := range settings {
		t.Run(key, func(t *testing.T) { newHost(t, build, commits, "").tryKey(s, when[key]) })
	}
	for _, key := range config.RepositoryKeys() {
		t.Run(key+" of one of several", func(t *testing.T) { newHost(t, build, commits, "/main").tryKey(settings[key], when[key]) })
	}
}

// tryKey sees that another value of a key shows when it should.
func (h *host) tryKey(s setting, when string) {
	h.publish()
	before := s.look(h)
	h.lines[s.line] = h.value(s)
	h.write()
	changed := s.look(h)
	h.stop()
	h.start()
	restarted := s.look(h)
	if restarted == before {
		h.t.Fatalf("it shows in nothing, always %s", before)
	}
	if atOnce := changed == restarted; atOnce != (when == "at once") {
		h.t.Errorf("before %s, after the change %s, after a restart %s: the page says %s", before, changed, restarted, when)
	}
}

// signing makes the key that a setting needs.
func (h *host) signing(value string) string {
	switch value {
	case "gpg":
		return "{gpg: " + gpg.New(h.t).Settings(0) + "}"
	case "ed25519":
		_, secret, err := ed25519.GenerateKey(nil)
		must.OK(h.t, err)
		must.OK(h.t, os.WriteFile(h.path("ed25519"), []byte(base64.StdEncoding.EncodeToString(secret)), 0o600))
		return fmt.Sprintf("{ed25519: {key-file: %s}}", h.path("ed25519"))
	}
	return value
}

// value gives names of files their folder, and makes what else a setting needs.
func (h *host) value(s setting) string {
	h.t.Helper()
	switch s.line {
	case "repo", "state":
		return h.path(s.value)
	case "repositories":
		delete(h.lines, "state")
		value := fmt.Sprintf("{main: {repo: %q}, other: {repo: %q}}", h.lines["repo"], h.path("other"))
		delete(h.lines, "repo")
		return value
	case "sign":
		return h.signing(s.value)
	case "oidc":
		return fmt.Sprintf("[{issuer: %q, audience: 'https://repo.example.org', claims: {repository: example/os}, name: gh}]", h.issuer.URL)
	case "tls":
		must.Run(h.t, "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=localhost",
			"-keyout", h.path("key.pem"), "-out", h.path("cert.pem"))
		return regexp.MustCompile(`\w+\.pem`).ReplaceAllStringFunc(s.value, h.path)
	}
	return s.value
}
