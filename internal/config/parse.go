// SPDX-License-Identifier: AGPL-3.0-or-later

package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"path"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/lirios/ostree-upload/internal/forwarded"
	"github.com/lirios/ostree-upload/internal/units"
)

// fileForm is the shape of the file. The leaves stay nodes: they know their
// lines, and a number that was meant as a word ("name: 123") stays as written.
type fileForm struct {
	repositoryForm `yaml:",inline"`
	Address        yaml.Node `yaml:"address"`
	TLS            struct {
		Cert     yaml.Node `yaml:"cert"`
		Key      yaml.Node `yaml:"key"`
		ClientCA yaml.Node `yaml:"client-ca"`
	} `yaml:"tls"`
	MetricsAddress yaml.Node `yaml:"metrics-address"`
	Page           yaml.Node `yaml:"page"`
	PageAddress    yaml.Node `yaml:"page-address"`
	LogFormat      yaml.Node `yaml:"log-format"`
	SessionTTL     yaml.Node `yaml:"session-ttl"`
	HoldTTL        yaml.Node `yaml:"hold-ttl"`
	History        yaml.Node `yaml:"history"`
	Grace          yaml.Node `yaml:"grace"`
	Limits         struct {
		MaxObjectSize   yaml.Node `yaml:"max-object-size"`
		MaxMetadataSize yaml.Node `yaml:"max-metadata-size"`
		MaxSessionSize  yaml.Node `yaml:"max-session-size"`
		MaxReserved     yaml.Node `yaml:"max-reserved"`
		MinFreeSpace    yaml.Node `yaml:"min-free-space"`
		MaxSessions     yaml.Node `yaml:"max-sessions"`
		MaxRefs         yaml.Node `yaml:"max-refs"`
		MaxObjects      yaml.Node `yaml:"max-objects"`
	} `yaml:"limits"`
	BasePath       yaml.Node   `yaml:"base-path"`
	TrustedProxies yaml.Node   `yaml:"trusted-proxies"`
	Tokens         []tokenForm `yaml:"tokens"`
	OIDC           []trustForm `yaml:"oidc"`

	Repositories map[string]repositoryForm `yaml:"repositories"`
}

// Keys lists the keys that a configuration file may have, sorted; those of a
// mapping behind a dot.
func Keys() []string {
	keys := keysOf(reflect.TypeFor[fileForm](), "")
	slices.Sort(keys)
	return keys
}

// RepositoryKeys lists those of a repository, which stand at the top of the file or in an
// entry of repositories.
func RepositoryKeys() []string {
	keys := keysOf(reflect.TypeFor[repositoryForm](), "")
	slices.Sort(keys)
	return keys
}

func keysOf(form reflect.Type, prefix string) (keys []string) {
	for f := range form.Fields() {
		key := prefix + f.Tag.Get("yaml")
		if f.Anonymous {
			keys = append(keys, keysOf(f.Type, prefix)...)
			continue
		}
		if f.Type.Kind() == reflect.Struct && f.Type != reflect.TypeFor[yaml.Node]() {
			keys = append(keys, keysOf(f.Type, key+".")...)
		} else {
			keys = append(keys, key)
		}
	}
	return keys
}

// Parse reads the text of a configuration file. All faults are reported, joined,
// each with its line and in that order.
func Parse(text []byte) (*Config, error) {
	var form fileForm
	p := &parser{}
	p.decode(text, &form)
	if p.broken {
		return nil, p.err()
	}
	c := Default()
	p.repository(&form.repositoryForm, &c.Repository)
	p.address(&form.Address, "address", &c.Address)
	p.text(&form.TLS.Cert, "tls.cert", &c.TLS.Cert)
	p.text(&form.TLS.Key, "tls.key", &c.TLS.Key)
	if (c.TLS.Cert == "") != (c.TLS.Key == "") {
		p.errorf(present(&form.TLS.Cert, &form.TLS.Key), "tls", "cert and key belong together, one is missing")
	}
	p.text(&form.TLS.ClientCA, "tls.client-ca", &c.TLS.ClientCA)
	if c.TLS.ClientCA != "" && c.TLS.Cert == "" {
		p.errorf(&form.TLS.ClientCA, "tls.client-ca", "needs cert and key: there are no client certificates without HTTPS")
	}
	p.address(&form.MetricsAddress, "metrics-address", &c.MetricsAddress)
	p.page(&form, c)
	p.oneOf(&form.LogFormat, "log-format", &c.LogFormat, LogText, LogJSON)
	p.duration(&form.SessionTTL, "session-ttl", &c.SessionTTL)
	if c.SessionTTL == 0 {
		p.errorf(&form.SessionTTL, "session-ttl", "must be more than 0")
	}
	p.duration(&form.HoldTTL, "hold-ttl", &c.HoldTTL)
	if c.HoldTTL == 0 {
		p.errorf(&form.HoldTTL, "hold-ttl", "must be more than 0")
	}
	p.duration(&form.History, "history", &c.History)
	p.duration(&form.Grace, "grace", &c.Grace)
	p.size(&form.Limits.MaxObjectSize, "limits.max-object-size", &c.Limits.MaxObjectSize)
	p.size(&form.Limits.MaxMetadataSize, "limits.max-metadata-size", &c.Limits.MaxMetadataSize)
	if c.Limits.MaxMetadataSize < 1 || c.Limits.MaxMetadataSize > MostMetadata {
		p.errorf(&form.Limits.MaxMetadataSize, "limits.max-metadata-size", "must be from 1 byte to 128MiB, the most that any libostree pulls")
	}
	p.size(&form.Limits.MaxSessionSize, "limits.max-session-size", &c.Limits.MaxSessionSize)
	p.size(&form.Limits.MaxReserved, "limits.max-reserved", &c.Limits.MaxReserved)
	p.size(&form.Limits.MinFreeSpace, "limits.min-free-space", &c.Limits.MinFreeSpace)
	p.count(&form.Limits.MaxSessions, "limits.max-sessions", &c.Limits.MaxSessions)
	p.count(&form.Limits.MaxRefs, "limits.max-refs", &c.Limits.MaxRefs)
	p.count(&form.Limits.MaxObjects, "limits.max-objects", &c.Limits.MaxObjects)
	parsed(p, &form.BasePath, "base-path", &c.BasePath, parseBasePath)
	p.proxies(&form.TrustedProxies, "trusted-proxies", &c.TrustedProxies)
	p.repositories(form.Repositories, c)
	p.known = c.CheckRepository
	c.Tokens = p.tokens(form.Tokens)
	c.OIDC = p.trusts(form.OIDC, c.Tokens)
	if len(p.faults) > 0 {
		return nil, p.err()
	}
	return c, nil
}

// A parser collects the faults of a file. Its methods leave the default where
// a key is not there.
type parser struct {
	faults   []fault
	broken   bool // no YAML at all: nothing more can be said about it
	document yaml.Node
	prefix   string             // of the keys of the repository that is being read
	known    func(string) error // reports what is no name of a repository of the file
}

// A fault is an error and the line that it names, 0 if none.
type fault struct {
	line int
	err  error
}

// FaultError is what is wrong with the text of a file: all its faults, a line each.
type FaultError struct{ faults error }

func (e *FaultError) Error() string { return e.faults.Error() }
func (e *FaultError) Unwrap() error { return e.faults }

// err joins the faults in the order of their lines.
func (p *parser) err() error {
	slices.SortStableFunc(p.faults, func(a, b fault) int { return cmp.Compare(a.line, b.line) })
	errs := make([]error, len(p.faults))
	for i, f := range p.faults {
		errs[i] = f.err
	}
	return &FaultError{errors.Join(errs...)}
}

func (p *parser) decode(text []byte, form *fileForm) {
	if yaml.Unmarshal(text, &p.document) == nil {
		if p.tags(&p.document); p.broken {
			return
		}
	}
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	err := d.Decode(form)
	var faults *yaml.TypeError
	switch {
	case err == io.EOF: // an empty file is all defaults
		return
	case errors.As(err, &faults):
		for _, f := range faults.Errors {
			p.faults = append(p.faults, fault{lineOf(f), errors.New(plainFault(f))})
		}
	case err != nil:
		p.faults, p.broken = append(p.faults, notYAML(err, text)), true
		return
	}
	if d.Decode(new(yaml.Node)) != io.EOF {
		p.faults = append(p.faults, fault{0, errors.New("more than one YAML document")})
	}
}

// notYAML says where a text is no YAML, and why if it is a common slip.
func notYAML(err error, text []byte) fault {
	said := strings.TrimPrefix(err.Error(), "yaml: ")
	line := lineOf(said)
	lines := strings.Split(string(text), "\n")
	// yaml counts from 0 or 1, by the kind of fault.
	for at := max(line, 1); at <= min(line+1, len(lines)); at++ {
		if indent := lines[at-1]; strings.Contains(indent[:len(indent)-len(strings.TrimLeft(indent, " \t"))], "\t") {
			return fault{at, fmt.Errorf("line %d: a tab at the start of the line; YAML is indented by spaces", at)}
		}
	}
	return fault{line, fmt.Errorf("not YAML: %s", said)}
}

// tags reports what is marked with a type, such as !!binary: nothing in the file
// has another than its own.
func (p *parser) tags(n *yaml.Node) {
	if n.Style&yaml.TaggedStyle != 0 {
		err := fmt.Errorf("line %d: the tag %s does not belong in this file", n.Line, n.ShortTag())
		p.faults, p.broken = append(p.faults, fault{n.Line, err}), true
	}
	for _, c := range n.Content {
		p.tags(c)
	}
}

// lineOf is the line that a fault of yaml's begins with.
func lineOf(s string) (line int) {
	_, _ = fmt.Sscanf(s, "line %d:", &line) // without one it stays 0
	return line
}

var unknownField = regexp.MustCompile(`field (.*) not found in type .*`)
var wrongKind = regexp.MustCompile(`(?s)cannot unmarshal (\S+).* into .*`)

// kinds are yaml's names of what a value can be, in words.
var kinds = strings.NewReplacer("!!str", "a text", "!!map", "a mapping", "!!seq", "a list",
	"!!int", "a number", "!!float", "a number", "!!bool", "true or false", "!!timestamp", "a time", "!!null", "nothing")

// plainFault says in words of the file what yaml says in words of Go. Values
// are left out: one of them may be a token.
func plainFault(s string) string {
	s = unknownField.ReplaceAllString(s, `unknown key "$1"`)
	s = wrongKind.ReplaceAllString(s, "$1 does not belong here")
	return kinds.Replace(s)
}

func (p *parser) errorf(n *yaml.Node, key, format string, args ...any) {
	err := fmt.Errorf("%s%s: %w", p.prefix, key, fmt.Errorf(format, args...))
	if n.Line > 0 { // else nothing of it is in the file
		err = fmt.Errorf("line %d: %w", n.Line, err)
	}
	p.faults = append(p.faults, fault{n.Line, err})
}

// present is the first of nodes that is in the file, or the last.
func present(nodes ...*yaml.Node) *yaml.Node {
	for _, n := range nodes {
		if n.Kind != 0 {
			return n
		}
	}
	return nodes[len(nodes)-1]
}

// scalar returns a key's value as it is written; false if there is no key or,
// after reporting it, no plain value.
func (p *parser) scalar(n *yaml.Node, key string) (string, bool) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	switch {
	case n.Kind == 0:
		return "", false
	case n.Kind != yaml.ScalarNode || n.ShortTag() == "!!null" || n.Value == "":
		p.errorf(n, key, "needs a value")
		return "", false
	}
	return n.Value, true
}

func (p *parser) text(n *yaml.Node, key string, into *string) {
	if s, ok := p.scalar(n, key); ok {
		*into = s
	}
}

// parsed puts what parse makes of a key's value into into, or reports the key.
func parsed[T any](p *parser, n *yaml.Node, key string, into *T, parse func(string) (T, error)) {
	s, ok := p.scalar(n, key)
	if !ok {
		return
	}
	v, err := parse(s)
	if err != nil {
		p.errorf(n, key, "%w", err)
		return
	}
	*into = v
}

func (p *parser) size(n *yaml.Node, key string, into *units.Size) {
	parsed(p, n, key, into, units.ParseSize)
}

func (p *parser) duration(n *yaml.Node, key string, into *units.Duration) {
	parsed(p, n, key, into, units.ParseDuration)
}

func (p *parser) count(n *yaml.Node, key string, into *int) {
	parsed(p, n, key, into, func(s string) (int, error) {
		v, err := strconv.ParseUint(s, 10, 31)
		if err != nil {
			return 0, fmt.Errorf("%q is not a whole number such as 50", s)
		}
		return int(v), nil
	})
}

func (p *parser) time(n *yaml.Node, key string, into *time.Time) {
	parsed(p, n, key, into, parseTime)
}

func (p *parser) address(n *yaml.Node, key string, into *string) {
	parsed(p, n, key, into, func(s string) (string, error) { return s, CheckAddress(s) })
}

func (p *parser) oneOf(n *yaml.Node, key string, into *string, words ...string) {
	parsed(p, n, key, into, func(s string) (string, error) {
		if slices.Contains(words, s) {
			return s, nil
		}
		return "", fmt.Errorf("%q is not one of %s", s, strings.Join(words, ", "))
	})
}

// parseBasePath reads a path with or without a slash at the end, and returns it without.
func parseBasePath(s string) (string, error) {
	if !strings.HasPrefix(s, "/") || path.Clean(s) != "/"+strings.Trim(s, "/") || strings.ContainsAny(s, "?#%") {
		return "", fmt.Errorf("%q is not the path of a URL such as /push", s)
	}
	return strings.TrimRight(s, "/"), nil
}

func (p *parser) proxies(n *yaml.Node, key string, into *forwarded.Proxies) {
	names, _ := p.list(n, key, forwarded.CheckProxy)
	*into, _ = forwarded.ParseProxies(names) // each of them was checked
}

// parseTime reads RFC 3339, and the shorter forms that YAML has for times,
// which are then UTC.
func parseTime(s string) (time.Time, error) {
	for _, form := range []string{time.RFC3339, "2006-01-02 15:04:05", time.DateOnly} {
		if t, err := time.Parse(form, s); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is not a time such as 2026-11-23T10:00:00Z", s)
}
