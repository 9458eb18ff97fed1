// SPDX-License-Identifier: AGPL-3.0-or-later

package config

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"

	"gopkg.in/yaml.v3"

	"github.com/lirios/ostree-upload/internal/token"
)

// Served lists the repositories of the configuration: those with names in the order of
// the file, or the one without.
func (c *Config) Served() []Repository {
	if c.Repositories != nil {
		return c.Repositories
	}
	return []Repository{c.Repository}
}

// served is the repository of a name, "" for the one without.
func (c *Config) served(name string) (Repository, bool) {
	for _, r := range c.Served() {
		if r.Name == name {
			return r, true
		}
	}
	return Repository{}, false
}

// Whole is the configuration that one of a repository is a part of, or itself.
func (c *Config) Whole() *Config {
	if c.whole != nil {
		return c.whole
	}
	return c
}

// A View is the part of a configuration that holds for one of its repositories: what is
// set for it and for all, and the tokens that may use it. A repository that the
// configuration does not name any more keeps what was set for it before.
type View struct {
	name string
	now  func() *Config

	mu   sync.Mutex
	last Repository
	part *Config
}

// NewView is the view of a repository of the configuration that now gives.
func NewView(now func() *Config, r Repository) *View {
	return &View{name: r.Name, now: now, last: r}
}

// Current is the configuration as it is now. It is the same pointer until that changes.
func (v *View) Current() *Config {
	whole := v.now()
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.part != nil && v.part.whole == whole {
		return v.part
	}
	if r, is := whole.served(v.name); is {
		v.last = r
	}
	part := *whole
	part.whole, part.Repository, part.Repositories = whole, v.last, nil
	part.Tokens = slices.DeleteFunc(slices.Clone(whole.Tokens), func(t token.Token) bool { return !t.MayUse(v.name) })
	if v.name != "" {
		part.BasePath = "" // it is taken away before the name
	}
	part.OIDC = slices.DeleteFunc(slices.Clone(whole.OIDC), func(t token.Trust) bool { return !t.MayUse(v.name) })
	v.part = &part
	return v.part
}

// A name is the first part of all paths of its repository, and stands in logs.
var repositoryName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// reserved are the first parts of paths that mean something else.
var reserved = []string{"api", "files", "healthz", "metrics", "page", "preview"}

// CheckRepositoryName reports what a repository cannot be called.
func CheckRepositoryName(name string) error {
	if !repositoryName.MatchString(name) {
		return fmt.Errorf("%.100q is not a name of a repository: up to 64 letters, digits and any of . _ -, as it is a part of a path", name)
	}
	if slices.Contains(reserved, name) {
		return fmt.Errorf("a repository cannot be called %s: the server answers at /%s itself", name, name)
	}
	return nil
}

// repositories reads the mapping of that name, in which each repository has the keys
// that stand at the top of a file with one.
func (p *parser) repositories(forms map[string]repositoryForm, c *Config) {
	at := p.keyed("repositories")
	if at == nil {
		return
	}
	c.Repository, c.Repositories = Repository{}, []Repository{}
	if len(forms) == 0 {
		p.errorf(at, "repositories", "needs a repository, such as {os: {repo: /srv/ostree/os}}")
	}
	for f := range reflect.TypeFor[repositoryForm]().Fields() {
		key := f.Tag.Get("yaml")
		if n := p.keyed(key); n != nil {
			p.errorf(n, key, "does not go with repositories: put it into the entry of each repository that it is for")
		}
	}
	for _, key := range p.inOrder(at, forms) {
		form, name := forms[key.Value], key.Value
		p.prefix = "repositories." + name + "."
		r := defaultRepository("")
		r.Name = name
		if err := CheckRepositoryName(name); err != nil {
			p.errorf(key, "name", "%w", err)
		}
		p.repository(&form, &r)
		if form.Repo.Kind == 0 {
			p.errorf(key, "repo", "needs a value")
		} else if err := r.Check(); err != nil {
			p.errorf(key, "repo", "%w", err)
		}
		p.apart(key, c.Repositories, &r)
		c.Repositories = append(c.Repositories, r)
	}
	p.prefix = ""
	p.hidden(at, c)
}

// inOrder is the keys of the mapping at the top of the file that is called repositories,
// in the order of the file.
func (p *parser) inOrder(at *yaml.Node, forms map[string]repositoryForm) (keys []*yaml.Node) {
	entries, _ := valueOf(p.top(), at.Value)
	if entries.Kind == yaml.AliasNode {
		entries = entries.Alias
	}
	for i := 0; i+1 < len(entries.Content); i += 2 {
		if _, is := forms[entries.Content[i].Value]; is {
			keys = append(keys, entries.Content[i])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(forms)) { // those that a merge (<<) brings
		if !slices.ContainsFunc(keys, func(n *yaml.Node) bool { return n.Value == name }) {
			keys = append(keys, &yaml.Node{Value: name, Line: at.Line})
		}
	}
	return keys
}

// apart reports a folder of a repository that is another's as well.
func (p *parser) apart(n *yaml.Node, others []Repository, r *Repository) {
	if r.Repo == "" {
		return
	}
	for i := range others {
		o := &others[i]
		theirs := []string{o.place(), rooted(o.StateFolder())}
		switch {
		case o.Repo == "":
		case slices.Contains(theirs, r.place()):
			p.errorf(n, "repo", "%s is a folder of repository %s already", r.Repo, o.Name)
		case slices.Contains(theirs, rooted(r.StateFolder())):
			p.errorf(n, "state", "%s is a folder of repository %s already", r.StateFolder(), o.Name)
		}
	}
}

// rooted is a path from the root on, as far as it can be told without looking.
func rooted(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return filepath.Clean(path)
}

// hidden reports a base path below which a repository would be hidden.
func (p *parser) hidden(n *yaml.Node, c *Config) {
	first, _, _ := strings.Cut(strings.TrimPrefix(c.BasePath, "/"), "/")
	if first != "" && slices.ContainsFunc(c.Repositories, func(r Repository) bool { return r.Name == first }) {
		p.errorf(n, "repositories", "a repository cannot be called %s beside base-path: %s, as that path is taken away", first, c.BasePath)
	}
}

// CheckRepository reports a name that no repository of the configuration has.
func (c *Config) CheckRepository(name string) error {
	if c.Repositories == nil {
		return fmt.Errorf("there is no repository %.100q: the configuration has one repository, without a name", name)
	}
	names := make([]string, len(c.Repositories))
	for i := range c.Repositories {
		names[i] = c.Repositories[i].Name
	}
	if !slices.Contains(names, name) {
		return fmt.Errorf("there is no repository %.100q, only %s", name, strings.Join(names, ", "))
	}
	return nil
}

// checkBound reports names in a token that no repository has.
func (c *Config) checkBound(t *token.Token) error {
	if t.Repositories == nil {
		return nil
	}
	var errs []error
	for _, name := range *t.Repositories {
		errs = append(errs, c.CheckRepository(name))
	}
	return errors.Join(errs...)
}

// top is the mapping of the whole file, nil if there is none.
func (p *parser) top() *yaml.Node {
	if len(p.document.Content) == 0 {
		return nil
	}
	return p.document.Content[0]
}

// keyed is the key at the top of the file with a name, nil if it is not there.
func (p *parser) keyed(name string) *yaml.Node {
	top := p.top()
	if top == nil || top.Kind != yaml.MappingNode {
		return nil
	}
	_, key := valueOf(top, name)
	return key
}
