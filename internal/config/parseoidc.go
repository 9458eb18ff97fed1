// SPDX-License-Identifier: AGPL-3.0-or-later

package config

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/lirios/ostree-upload/internal/token"
)

// trustForm is one entry of the list oidc.
type trustForm struct {
	Issuer   yaml.Node `yaml:"issuer"`
	Audience yaml.Node `yaml:"audience"`
	Claims   yaml.Node `yaml:"claims"`
	Name     yaml.Node `yaml:"name"`
	Refs     yaml.Node `yaml:"refs"`
	Scopes   yaml.Node `yaml:"scopes"`

	Repositories yaml.Node `yaml:"repositories"`
}

// trusts checks the list oidc. A name is of one entry, or of one token: a session
// belongs to a name.
func (p *parser) trusts(forms []trustForm, tokens []token.Token) []token.Trust {
	var trusts []token.Trust
	taken := map[string]string{}
	for i, t := range tokens {
		taken[t.Name] = fmt.Sprintf("token %d", i+1)
	}
	for i := range forms {
		key := fmt.Sprintf("oidc %d", i+1)
		t := p.trust(&forms[i], key)
		if other, is := taken[t.Name]; is && t.Name != "" {
			p.errorf(&forms[i].Name, key, "the name %s is already that of %s", t.Name, other)
		}
		taken[t.Name] = key
		trusts = append(trusts, t)
	}
	return trusts
}

// trust reads one entry; what is faulty in it stays empty.
func (p *parser) trust(f *trustForm, key string) token.Trust {
	t := token.Trust{Scopes: []string{token.Push}}
	parsed(p, &f.Issuer, key+": issuer", &t.Issuer, func(s string) (string, error) { return s, checkIssuer(s) })
	p.text(&f.Audience, key+": audience", &t.Audience)
	parsed(p, &f.Name, key+": name", &t.Name, func(s string) (string, error) { return s, token.CheckName(s) })
	first := present(&f.Issuer, &f.Audience, &f.Name, &f.Claims, &f.Refs, &f.Scopes, &f.Repositories)
	for i, needed := range []*yaml.Node{&f.Issuer, &f.Audience, &f.Name} {
		if needed.Kind == 0 {
			p.errorf(first, key, "needs a value for %s", []string{"issuer", "audience", "name"}[i])
		}
	}
	t.Claims = p.claims(&f.Claims, key, first, t.Issuer)
	if refs, there := p.list(&f.Refs, key+": refs", token.CheckGlob); there {
		t.Refs = &refs
	}
	if scopes, there := p.list(&f.Scopes, key+": scopes", token.CheckScope); there {
		t.Scopes = scopes
	}
	t.Repositories = p.bound(&f.Repositories, key)
	return t
}

// claims reads a mapping from claims to a glob or to a list of them. There has to be
// one: else whoever can get an ID token of the issuer may push.
func (p *parser) claims(n *yaml.Node, key string, first *yaml.Node, issuer string) map[string][]string {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind == 0 || n.Kind == yaml.MappingNode && len(n.Content) == 0 {
		p.errorf(present(n, first), key, `needs claims, else every ID token of the issuer is taken; claims: {sub: "**"} says that this is meant`)
		return nil
	}
	key += ": claims"
	if n.Kind != yaml.MappingNode {
		p.errorf(n, key, `needs a mapping such as {repository: "example/os"}`)
		return nil
	}
	claims := map[string][]string{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name := n.Content[i]
		if _, twice := claims[name.Value]; twice {
			p.errorf(name, key, "duplicate key %q", name.Value)
		}
		claims[name.Value] = p.globs(n.Content[i+1], key+": "+name.Value)
	}
	if err := checkWhose(issuer, claims); err != nil {
		p.errorf(n, key, "%w", err)
	}
	return claims
}

// globs reads what a claim has to match: a glob, or a list of which one has to. It is
// never empty unless there is a fault.
func (p *parser) globs(n *yaml.Node, key string) (globs []string) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind == yaml.SequenceNode {
		globs, _ = p.list(n, key, token.CheckClaimGlob)
		if len(n.Content) == 0 {
			p.errorf(n, key, "%w", errors.New("needs at least one value"))
		}
		return globs
	}
	var glob string
	parsed(p, n, key, &glob, func(s string) (string, error) { return s, token.CheckClaimGlob(s) })
	return []string{glob}
}

// checkIssuer refuses what is not the URL of an issuer whose keys can be read from it
// without anybody on the way changing them.
func checkIssuer(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return fmt.Errorf("%q is not an issuer such as https://token.actions.githubusercontent.com", s)
	}
	if u.Scheme == "https" || u.Scheme == "http" && IsLoopback(u.Hostname()) {
		return nil
	}
	return fmt.Errorf("%q has to begin with https:// (http:// is for issuers of this machine alone)", s)
}

// IsLoopback tells whether a host of a URL is this machine.
func IsLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// whose are the claims that say whose workflow it is, of issuers at which everyone can
// have one.
var whose = map[string][]string{
	"https://token.actions.githubusercontent.com": {"repository", "repository_id", "repository_owner", "repository_owner_id", "sub", "workflow_ref", "enterprise", "enterprise_id"},
	"https://gitlab.com":                          {"project_path", "project_id", "namespace_path", "namespace_id", "sub", "user_login", "user_id", "ci_config_ref_uri"},
}

// checkWhose refuses claims that everybody's workflow can have, such as a branch alone.
func checkWhose(issuer string, claims map[string][]string) error {
	known, is := whose[issuer]
	if !is || slices.ContainsFunc(known, func(name string) bool { return claims[name] != nil }) {
		return nil
	}
	return fmt.Errorf("everybody at %s can have these: add one of %s", issuer, strings.Join(known, ", "))
}
