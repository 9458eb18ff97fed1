// SPDX-License-Identifier: AGPL-3.0-or-later

package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/forwarded"
	"github.com/lirios/ostree-upload/internal/token"
	"github.com/lirios/ostree-upload/internal/units"
)

const hashA = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
const hashB = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

// TestParseEverything pins each key of the file, as docs/operating.md has them.
func TestParseEverything(t *testing.T) {
	got, err := Parse([]byte(`# the production host
repo: /srv/ostree/repo
address: "127.0.0.1:9000"
state: /srv/ostree/state
tls: {cert: /etc/cert.pem, key: /etc/key.pem, client-ca: /etc/clients.pem}
metrics-address: 127.0.0.1:9100
summary: never
sign: {ed25519: {key-file: /etc/key}, commits: true}
log-format: json
check-command: [/usr/local/bin/check, --all]
check-timeout: 1h
session-ttl: 24h
hold-ttl: 2d
history: 90d
grace: 5s
limits: {max-object-size: 2GiB, max-metadata-size: 64MiB, max-session-size: 10MB, max-reserved: 3GiB, min-free-space: 0, max-sessions: 7, max-refs: 0, max-objects: 3000}
trusted-proxies: [127.0.0.1, "10.0.0.0/8", unix]
base-path: /some/prefix/
tokens:
  - name: ci
    sha256: ` + hashA + `
    created: 2026-11-23T10:00:00Z
    expires: 2027-11-23T12:00:00+02:00
    refs: ["os/**"]
    scopes: [push, force]
  - name: 123
    sha256: ` + strings.ToUpper(hashB) + `
    refs: []
  - token: PLAINTEXT
    created: 2020-12-30T00:00:00Z
`))
	if err != nil {
		t.Fatal(err)
	}
	plain := token.Hash("PLAINTEXT")
	proxies, err := forwarded.ParseProxies([]string{"127.0.0.1", "10.0.0.0/8", "unix"})
	if err != nil {
		t.Fatal(err)
	}
	want := &Config{
		BasePath: "/some/prefix", TrustedProxies: proxies,
		Repository: Repository{
			Repo: "/srv/ostree/repo", State: "/srv/ostree/state", Summary: SummaryNever, Sign: Sign{Ed25519: "/etc/key", Commits: true},
			CheckCommand: []string{"/usr/local/bin/check", "--all"}, CheckTimeout: units.Duration(time.Hour),
		},
		Address: "127.0.0.1:9000",
		TLS:     TLS{"/etc/cert.pem", "/etc/key.pem", "/etc/clients.pem"}, MetricsAddress: "127.0.0.1:9100", LogFormat: LogJSON,
		SessionTTL: units.Duration(24 * time.Hour), HoldTTL: units.Duration(48 * time.Hour), History: units.Duration(2160 * time.Hour), Grace: units.Duration(5 * time.Second),
		Limits: Limits{MaxObjectSize: 2 << 30, MaxMetadataSize: 64 << 20, MaxSessionSize: 10e6, MaxReserved: 3 << 30, MaxSessions: 7, MaxObjects: 3000},
		Tokens: []token.Token{
			{Name: "ci", SHA256: hashA,
				Created: time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC),
				Expires: time.Date(2027, 11, 23, 10, 0, 0, 0, time.UTC),
				Refs:    &[]string{"os/**"}, Scopes: []string{"push", "force"}},
			{Name: "123", SHA256: hashB, Refs: &[]string{}, Scopes: []string{"push"}},
			{Name: "legacy-" + plain[:8], SHA256: plain,
				Created: time.Date(2020, 12, 30, 0, 0, 0, 0, time.UTC), Scopes: []string{"push"}},
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestParseEmptyIsDefault(t *testing.T) {
	for _, text := range []string{"", "\n", "# only words\n", "tokens:\n", "tokens: []\n", "---\n"} {
		got, err := Parse([]byte(text))
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if want := Default(); len(got.Tokens) != 0 || got.Repo != want.Repo || got.Limits != want.Limits {
			t.Errorf("%q: %+v", text, got)
		}
	}
	if got := Default().StateFolder(); got != "repo/.ostree-upload" {
		t.Errorf("state folder %s", got)
	}
}

// TestParseFaults pins what is refused, and that the words lead to the place.
func TestParseFaults(t *testing.T) {
	token := "tokens:\n- name: a\n  sha256: " + hashA + "\n"
	for _, tt := range []struct{ text, want string }{
		{"repos: x", `line 1: unknown key "repos"`},
		{"limits: {max-things: 1MiB}", `line 1: unknown key "max-things"`},
		{token + "  ref: [x]", `line 4: unknown key "ref"`},
		{"repo: a\nrepo: b", `already defined at line 1`},
		{"repo:", "line 1: repo: needs a value"},
		{"repo: [a]", "line 1: repo: needs a value"},
		{"- repo", "does not belong here"},
		{"repo: a\n---\nrepo: b", "more than one YAML document"},
		{"repo: 'a", "unexpected end"},
		{"address: 8080", `"8080" is not an address`},
		{"summary: yes", `"yes" is not one of auto, always, never`},
		{"tls: {cert: a.pem}", "cert and key belong together"},
		{"session-ttl: 168", `session-ttl: "168" is not a duration`},
		{"session-ttl: 0", "session-ttl: must be more than 0"},
		{"history: -1h", "is not a duration"},
		{"\nlimits:\n  min-free-space: 100", `line 3: limits.min-free-space: "100" needs a unit`},
		{"limits: {max-object-size: -1GiB}", "is not a size"},
		{"limits: {max-metadata-size: 0}", "line 1: limits.max-metadata-size: must be from 1 byte to 128MiB"},
		{"limits: {max-metadata-size: 129MiB}", "must be from 1 byte to 128MiB"},
		{"base-path: push", `line 1: base-path: "push" is not the path of a URL such as /push`},
		{"base-path: /a//b", "is not the path of a URL"},
		{"base-path: /../b", "is not the path of a URL"},
		{"base-path: /b?c", "is not the path of a URL"},
		{"base-path: https://host/b", "is not the path of a URL"},
		{"keep: {refs: [x]}", "line 1: a mapping does not belong here"},
		{"keep:\n- depth: 2", "line 2: keep 1: needs refs"},
		{"keep:\n- {refs: [], depth: 2}", "line 2: keep 1: is for no ref"},
		{"keep:\n- refs: [x]", "line 2: keep 1: needs depth, younger-than or both"},
		{"keep:\n- {refs: [x], depth: -2}", `keep 1: depth: "-2" is not a number of parents`},
		{"keep:\n- {refs: [x], depth: all}", `keep 1: depth: "all" is not a number of parents`},
		{"keep:\n- {refs: [x], younger-than: 90}", `keep 1: younger-than: "90" is not a duration`},
		{"keep:\n- {refs: ['x[0-9]'], depth: 1}", "only letters, digits"},
		{"keep:\n- {ref: [x], depth: 1}", `unknown key "ref"`},
		{"trusted-proxies: 127.0.0.1", "line 1: trusted-proxies: needs a list"},
		{"trusted-proxies:\n- 127.0.0.1\n- nginx", `line 3: trusted-proxies: "nginx" is neither an address`},
		{"tokens: {name: a}", "does not belong here"},
		{"tokens:\n- name: a", "line 2: token 1: needs a sha256"},
		{"tokens:\n- {}", "token 1: needs a sha256"},
		{"tokens:\n- name: a\n  sha256: abc", "line 3: token 1: sha256: not 64 hex digits"},
		{token + "  token: x", "has both sha256 and token"},
		{token + "  refs:", "refs: needs a list"},
		{token + "  refs: all", "refs: needs a list"},
		{token + "  refs: ['os/[ab]']", "only letters, digits"},
		{token + "  refs: ['/os']", "can match no ref"},
		{token + "  scopes: [pull]", `scope "pull" is not one of push, force, hold, publish, promote, delete, sessions, metrics, admin`},
		{token + "  created: yesterday", `line 4: token 1: created: "yesterday" is not a time`},
		{"tokens:\n- name: 'a b'\n  sha256: " + hashA, `"a b" is not a token name`},
		{token + "- name: a\n  sha256: " + hashB, "line 4: token 2: the name a is already that of token 1"},
		{token + "- name: b\n  sha256: " + hashA, "line 5: token 2: the same token as token 1"},
	} {
		if _, err := Parse([]byte(tt.text)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q:\ngot  %v\nwant %s", tt.text, err, tt.want)
		}
	}
}

// TestParseReportsAll pins that one run shows every fault.
func TestParseReportsAll(t *testing.T) {
	_, err := Parse([]byte("repos: x\nhistory: 1\nlimits: {min-free-space: x}\ntokens:\n- {name: a, scopes: [x]}\n"))
	if err == nil {
		t.Fatal("accepted")
	}
	if lines := strings.Split(err.Error(), "\n"); len(lines) != 5 {
		t.Errorf("%d faults, want 5:\n%v", len(lines), err)
	}
}

// TestParseReportsInOrder pins that faults come in the order of their lines, and
// that those between tokens come also where the tokens have others.
func TestParseReportsInOrder(t *testing.T) {
	_, err := Parse([]byte(`tokens:
- name: a
  sha256: ` + hashA + `
  scopes: [x]
- name: a
  sha256: ` + hashA + `
  expires: never
  ref: [x]
- name: b c
  token: SECRET
- name: d e
  sha256: ` + hashB + `
limits: {min-free-space: x}
tls: {key: x}
repos: x
history: 1
`))
	if err == nil {
		t.Fatal("accepted")
	}
	want := []string{
		"line 4: token 1: scopes:", "line 5: token 2: the name a", "line 6: token 2: the same token",
		"line 7: token 2: expires:", "line 8: unknown key", "line 9: token 3: name:", "line 11: token 4: name:",
		"line 13: limits.min-free-space:", "line 14: tls: cert and key", "line 15: unknown key", "line 16: history:",
	}
	lines := strings.Split(err.Error(), "\n")
	if !slices.EqualFunc(lines, want, strings.HasPrefix) {
		t.Errorf("got\n%v\nwant\n%s", err, strings.Join(want, "\n"))
	}
}

// TestParseHidesTokens pins that no fault shows a plaintext.
func TestParseHidesTokens(t *testing.T) {
	for _, text := range []string{
		"tokens:\n- token: SECRET\n  scopes: [x]",
		"tokens:\n- token: SECRET\n- token: SECRET",
		"tokens:\n- token: SECRET\n  sha256: " + hashA,
		"tokens:\n- sha256: SECRET",
		"tokens:\n- SECRET",
		"tokens: SECRET",
	} {
		if _, err := Parse([]byte(text)); err == nil || strings.Contains(err.Error(), "SECRET") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestLoadMissing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none.yaml")
	_, err := Load(path)
	var hinted interface{ Hint() string }
	if !errors.Is(err, fs.ErrNotExist) || !errors.As(err, &hinted) || !strings.Contains(hinted.Hint(), "gentoken") {
		t.Error(err)
	}
	if err := os.WriteFile(path, []byte("repos: x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("the fault does not name the file: %v", err)
	}
}

// FuzzParse pins that no text makes the parser panic, and what is accepted
// keeps the rules that the rest of the server builds on. What is accepted can
// also be added to, and then differs by that token alone.
func FuzzParse(f *testing.F) {
	for _, text := range editable {
		f.Add([]byte(text))
	}
	f.Add([]byte("oidc: [{issuer: https://a, audience: b, claims: {sub: c}, name: d}]"))
	f.Add([]byte("# old\rtokens:")) // two lines, but for YAML only
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := Parse(text)
		if err != nil {
			return
		}
		names := map[string]bool{}
		for _, tok := range c.Tokens {
			if len(tok.SHA256) != 64 || names[tok.Name] || tok.Check() != nil {
				t.Errorf("accepted %+v", tok)
			}
			names[tok.Name] = true
		}
		for _, trust := range c.OIDC {
			if trust.Issuer == "" || trust.Audience == "" || len(trust.Claims) == 0 || names[trust.Name] || token.CheckName(trust.Name) != nil {
				t.Errorf("accepted %+v", trust)
			}
			names[trust.Name] = true
		}
		if c.SessionTTL <= 0 || c.Limits.MinFreeSpace < 0 {
			t.Errorf("accepted %+v", c)
		}
		withToken(text, token.Token{Name: "fuzz", SHA256: hashB, Scopes: []string{"push"}})
	})
}

// TestKeep pins how the entries of keep are read, and that no list is another thing than
// an empty one.
func TestKeep(t *testing.T) {
	c, err := Parse([]byte("keep:\n- {refs: ['os/*'], depth: 10, younger-than: 90d}\n- {refs: ['**'], depth: -1}\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := []Keep{
		{Refs: []string{"os/*"}, Depth: 10, YoungerThan: units.Duration(90 * 24 * time.Hour)},
		{Refs: []string{"**"}, Depth: KeepAll},
	}
	if !reflect.DeepEqual(c.Keep, want) {
		t.Errorf("%+v", c.Keep)
	}
	if !want[0].Concerns("os/x") || want[0].Concerns("os/x/y") || !want[1].Concerns("os/x/y") {
		t.Error("the wrong refs are concerned")
	}
	for text, none := range map[string]bool{"": true, "keep:": true, "keep: []": false} {
		if c, err = Parse([]byte(text)); err != nil || (c.Keep == nil) != none {
			t.Errorf("%q: %v, %v", text, c.Keep, err)
		}
	}
}
