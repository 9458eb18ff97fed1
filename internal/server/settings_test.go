// SPDX-License-Identifier: AGPL-3.0-or-later

package server_test

import (
	"crypto/ed25519"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptrace"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/bucket"
	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/mirror"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/gpg"
	"github.com/lirios/ostree-upload/test/must"
	ts "github.com/lirios/ostree-upload/test/server"
	"github.com/lirios/ostree-upload/test/store"
)

// A setting is another value for a key, and how it shows in a server.
type setting struct {
	line, value string
	look        func(h *host) string
}

var settings = map[string]setting{
	"repo":          {"repo", "other", func(h *host) string { return fmt.Sprint(h.hasRef()) }},
	"state":         {"state", "state2", func(h *host) string { return fmt.Sprint(h.sessions() > 0) }},
	"s3.endpoint":   {"s3", "", func(h *host) string { return fmt.Sprint(h.hasRef()) }},
	"s3.path-style": {"s3", "", func(h *host) string { return fmt.Sprint(h.hasRef()) }},
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
	"page": {"page", "true", func(h *host) string {
		return ts.NewClient(h.t, "http://"+h.address, "").Do("GET", "/", nil).Header.Get("Content-Type")
	}},
	"page-address": {"page-address", "127.0.0.1:0", func(h *host) string {
		if h.page == "" {
			return "nowhere"
		}
		main := ts.NewClient(h.t, "http://"+h.address, "").Do("GET", "/", nil).Header.Get("Content-Type")
		return main + " and " + ts.NewClient(h.t, "http://"+h.page, "").Do("GET", "/", nil).Header.Get("Content-Type")
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

// bucket makes an empty repository in a bucket, which the server is to serve instead.
func (h *host) bucket() string {
	store.SetCredentials(h.t)
	url := store.Fake(h.t, store.FakeOptions{})
	b, err := bucket.Open(h.t.Context(), bucket.Config{Bucket: store.FakeBucket, Endpoint: url, PathStyle: true})
	must.OK(h.t, err)
	must.OK(h.t, mirror.Init(h.t.Context(), b))
	h.lines["repo"] = "s3://" + store.FakeBucket
	return fmt.Sprintf("{endpoint: %q, path-style: true}", url)
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
	case "s3":
		return h.bucket()
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
