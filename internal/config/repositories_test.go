// SPDX-License-Identifier: AGPL-3.0-or-later

package config

import (
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/internal/token"
	"github.com/lirios/ostree-upload/test/must"
)

// Several repositories have the keys that one has, each its own, and tokens may be
// bound to some of them.
func TestRepositories(t *testing.T) {
	c, err := Parse([]byte(`
address: ":1"
repositories:
  os: {repo: /srv/os, summary: never}
  apps:
    repo: /srv/apps
    state: /srv/state
tokens:
  - {name: all, sha256: ` + strings.Repeat("a", 64) + `}
  - {name: apps, sha256: ` + strings.Repeat("b", 64) + `, repositories: [apps]}
  - {name: none, sha256: ` + strings.Repeat("c", 64) + `, repositories: []}
oidc:
  - {issuer: "https://ci.example.org", audience: a, claims: {sub: "**"}, name: job, repositories: [os]}
`))
	must.OK(t, err)
	var said []string
	for _, r := range c.Served() {
		v := NewView(func() *Config { return c }, r).Current()
		said = append(said, strings.Join([]string{v.Name, v.Repo, v.StateFolder(), v.Summary, v.Address}, " "))
		for _, tok := range v.Tokens {
			said = append(said, tok.Name)
		}
		for _, tok := range v.OIDC {
			said = append(said, tok.Name)
		}
	}
	const want = "os /srv/os /srv/os/.ostree-upload never :1, all, job, apps /srv/apps /srv/state auto :1, all, apps"
	if got := strings.Join(said, ", "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// A view follows the configuration, and keeps what was set for a repository that it does
// not name any more. It is the same pointer until the configuration changes.
func TestView(t *testing.T) {
	parse := func(text string) *Config {
		t.Helper()
		c, err := Parse([]byte(text))
		must.OK(t, err)
		return c
	}
	now := parse("repositories: {os: {repo: /os, summary: never}, apps: {repo: /apps}}")
	v := NewView(func() *Config { return now }, now.Served()[0])
	first := v.Current()
	if first != v.Current() || first.Whole() != now {
		t.Error("a view is another one each time")
	}
	for _, step := range []struct{ text, summary string }{
		{"repositories: {os: {repo: /os, summary: always}}", "always"},
		{"{repositories: {apps: {repo: /apps}}, tokens: [{name: t, sha256: " + token.Hash("t") + "}]}", "always"},
		{"{repo: /os, summary: never}", "always"},
		{"repositories: {os: {repo: /os}}", "auto"},
	} {
		now = parse(step.text)
		if c := v.Current(); c.Summary != step.summary || c.Name != "os" || c.Repo != "/os" || len(c.Tokens) != len(now.Tokens) {
			t.Errorf("%s: %+v", step.text, c.Repository)
		}
	}
}

// What is wrong with repositories is told with its line.
func TestRepositoriesRefused(t *testing.T) {
	for text, want := range map[string]string{
		"repo: /srv/a\nrepositories: {os: {repo: /srv/b}}":  "line 1: repo: does not go with repositories",
		"repositories: {os: {repo: /srv/b}}\nsummary: auto": "line 2: summary: does not go with repositories",
		"repositories: {}":                                                        "line 1: repositories: needs a repository",
		"repositories:":                                                           "line 1: repositories: needs a repository",
		"repositories: [os]":                                                      "a list does not belong here",
		"repositories:\n  os: {state: /x}":                                        "line 2: repositories.os.repo: needs a value",
		"repositories:\n  os:":                                                    "line 2: repositories.os.repo: needs a value",
		"repositories:\n  os: {repo: /a, sumary: auto}":                           `line 2: unknown key "sumary"`,
		"repositories:\n  os: {repo: /a, address: ':1'}":                          `line 2: unknown key "address"`,
		"repositories:\n  os: {repo: /a, summary: x}":                             `line 2: repositories.os.summary: "x" is not one of`,
		"repositories:\n  os: {repo: /a}\n  os: {repo: /b}":                       "already defined",
		"repositories:\n  a/b: {repo: /a}":                                        "is not a name of a repository",
		"repositories:\n  ..: {repo: /a}":                                         "is not a name of a repository",
		"repositories:\n  healthz: {repo: /a}":                                    "the server answers at /healthz itself",
		"repositories:\n  files: {repo: /a}":                                      "the server answers at /files itself",
		"repositories:\n  a: {repo: /a}\n  b: {repo: /x/../a}":                    "line 3: repositories.b.repo: /x/../a is a folder of repository a",
		"repositories:\n  a: {repo: /a, state: /s}\n  b: {repo: /b, state: /s/}":  "line 3: repositories.b.state: /s/ is a folder of repository a",
		"repositories:\n  a: {repo: /a, state: /b}\n  b: {repo: /b}":              "line 3: repositories.b.repo: /b is a folder of repository a",
		"base-path: /a/x\nrepositories:\n  a: {repo: /a}":                         "cannot be called a beside base-path",
		"tokens: [{name: t, sha256: " + token.Hash("") + ", repositories: [os]}]": `there is no repository "os": the configuration has one`,
		"repositories: {a: {repo: /a}}\ntokens: [{name: t, sha256: " + token.Hash("") + ", repositories: [os]}]":                   `line 2: token 1: repositories: there is no repository "os", only a`,
		"repositories: {a: {repo: /a}}\noidc: [{issuer: 'https://x', audience: a, claims: {sub: x}, name: n, repositories: [os]}]": `line 2: oidc 1: repositories: there is no repository "os", only a`,
		"x: &x {os: {repo: /a}}\nrepositories: {<<: {os: {repo: /a}, apps: {repo: /a}}}":                                           "unknown key",
		"repositories: {<<: {os: {repo: /a}, apps: {repo: /a}}}":                                                                   "is a folder of repository apps",
	} {
		if _, err := Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\ngot  %v\nwant %s", text, err, want)
		}
	}
}

// A token keeps its repositories, and gets those that are given.
func TestBoundTokens(t *testing.T) {
	const file = "repositories:\n  os: {repo: /os}\n  apps: {repo: /apps}\n"
	_, made := token.Generate(token.Options{Name: "ci", Repositories: []string{"os"}})
	text, err := withToken([]byte(file), made)
	must.OK(t, err)
	if want := `  repositories: ["os"]`; !strings.Contains(string(text), want) || !strings.HasPrefix(string(text), file) {
		t.Errorf("got %s, want %s", text, want)
	}
	for _, step := range []struct {
		give []string
		want string
	}{{nil, `["os"]`}, {[]string{"apps", "os"}, `["apps", "os"]`}, {[]string{"apps"}, `["apps"]`}} {
		_, next := token.Generate(token.Options{Name: "ci", Repositories: step.give})
		text, _, err = withRenewed(text, next, 0)
		must.OK(t, err)
		if !strings.Contains(string(text), "repositories: "+step.want) {
			t.Errorf("%v: got %s", step.give, text)
		}
	}
	_, wrong := token.Generate(token.Options{Name: "other", Repositories: []string{"oss"}})
	if _, err := withToken(text, wrong); err == nil || err.Error() != `there is no repository "oss", only os, apps` {
		t.Errorf("a token for a repository that there is not: %v", err)
	}
}
