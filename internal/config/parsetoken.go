// SPDX-License-Identifier: AGPL-3.0-or-later

package config

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/lirios/ostree-upload/internal/token"
)

// tokenForm is one entry of the list of tokens: with sha256, or in the older
// form, with the plaintext under token.
type tokenForm struct {
	Name    yaml.Node `yaml:"name"`
	SHA256  yaml.Node `yaml:"sha256"`
	Token   yaml.Node `yaml:"token"`
	Created yaml.Node `yaml:"created"`
	Expires yaml.Node `yaml:"expires"`
	Refs    yaml.Node `yaml:"refs"`
	Scopes  yaml.Node `yaml:"scopes"`

	Repositories yaml.Node `yaml:"repositories"`

	Previous []secretForm `yaml:"previous"`
}

// secretForm is a secret that a token had before.
type secretForm struct {
	SHA256 yaml.Node `yaml:"sha256"`
	Until  yaml.Node `yaml:"until"`
}

// tokens checks the list of tokens. Two of one name could not be told apart in
// logs; two of one hash would hide each other's limits.
func (p *parser) tokens(forms []tokenForm) []token.Token {
	var tokens []token.Token
	names, hashes := map[string]int{}, map[string]int{}
	for i := range forms {
		key := fmt.Sprintf("token %d", i+1)
		f := &forms[i]
		t := p.token(f, key)
		if first, twice := names[t.Name]; twice && t.Name != "" {
			p.errorf(present(&f.Name, &f.Token, &f.SHA256), key, "the name %s is already that of token %d", t.Name, first)
		}
		p.unlike(hashes, t.SHA256, i+1, present(&f.Token, &f.SHA256), key)
		for k, s := range t.Previous {
			p.unlike(hashes, s.SHA256, i+1, &f.Previous[k].SHA256, key+": previous")
		}
		names[t.Name] = i + 1
		tokens = append(tokens, t)
	}
	return tokens
}

// unlike reports a hash that another token has, or the same one twice.
func (p *parser) unlike(hashes map[string]int, hash string, token int, n *yaml.Node, key string) {
	if first, twice := hashes[hash]; twice && hash != "" {
		p.errorf(n, key, "the same token as token %d", first)
	}
	hashes[hash] = token
}

// token reads one entry; what is faulty in it stays empty.
func (p *parser) token(f *tokenForm, key string) token.Token {
	t := token.Token{Scopes: []string{token.Push}}
	p.secret(f, key, &t.SHA256)
	parsed(p, &f.Name, key+": name", &t.Name, func(s string) (string, error) { return s, token.CheckName(s) })
	p.time(&f.Created, key+": created", &t.Created)
	p.time(&f.Expires, key+": expires", &t.Expires)
	if refs, there := p.list(&f.Refs, key+": refs", token.CheckGlob); there {
		t.Refs = &refs
	}
	if scopes, there := p.list(&f.Scopes, key+": scopes", token.CheckScope); there {
		t.Scopes = scopes
	}
	t.Repositories = p.bound(&f.Repositories, key)
	for i := range f.Previous {
		t.Previous = append(t.Previous, p.previous(&f.Previous[i], key+": previous"))
	}
	if f.Name.Kind == 0 && t.SHA256 != "" {
		t.Name = "legacy-" + t.SHA256[:8]
	}
	return t
}

// bound reads the repositories that a token, or who matches an entry of oidc, may use.
func (p *parser) bound(n *yaml.Node, key string) *[]string {
	names, there := p.list(n, key+": repositories", p.known)
	if !there {
		return nil
	}
	return &names
}

// secret takes the hash, or makes it from the plaintext of the older form.
// Neither of the two is ever part of an error.
func (p *parser) secret(f *tokenForm, key string, into *string) {
	hash, hasHash := p.scalar(&f.SHA256, key+": sha256")
	plain, hasPlain := p.scalar(&f.Token, key+": token")
	switch {
	case hasHash && hasPlain:
		p.errorf(&f.Token, key, "has both sha256 and token")
	case hasHash:
		p.hash(&f.SHA256, key+": sha256", hash, into)
	case hasPlain:
		*into = token.Hash(plain)
	case f.SHA256.Kind == 0 && f.Token.Kind == 0:
		n := present(&f.Name, &f.Created, &f.Expires, &f.Refs, &f.Scopes, &f.Repositories)
		p.errorf(n, key, "needs a sha256")
	}
}

func (p *parser) hash(n *yaml.Node, key, hash string, into *string) {
	hash = strings.ToLower(hash)
	if raw, err := hex.DecodeString(hash); err != nil || len(raw) != 32 {
		p.errorf(n, key, "not 64 hex digits")
		return
	}
	*into = hash
}

// previous reads a secret that was replaced. Without an end it would be good for
// ever.
func (p *parser) previous(f *secretForm, key string) (s token.Secret) {
	if hash, ok := p.scalar(&f.SHA256, key+": sha256"); ok {
		p.hash(&f.SHA256, key+": sha256", hash, &s.SHA256)
	}
	p.time(&f.Until, key+": until", &s.Until)
	if f.SHA256.Kind == 0 || f.Until.Kind == 0 {
		p.errorf(present(&f.SHA256, &f.Until), key, "needs sha256 and until")
	}
	return s
}

// list reads a list of words. A key without a value is an error, not a missing
// key: for refs the one would mean none and the other all.
func (p *parser) list(n *yaml.Node, key string, check func(string) error) (words []string, there bool) {
	if n.Kind == 0 {
		return nil, false
	}
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	words = []string{}
	if n.Kind != yaml.SequenceNode {
		p.errorf(n, key, "%w", errors.New("needs a list; [] is an empty one"))
		return words, true
	}
	for _, item := range n.Content {
		word, ok := p.scalar(item, key)
		if !ok {
			continue
		}
		if err := check(word); err != nil {
			p.errorf(item, key, "%w", err)
			continue
		}
		words = append(words, word)
	}
	return words, true
}
