// SPDX-License-Identifier: AGPL-3.0-or-later

package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/lirios/ostree-upload/internal/hint"
	"github.com/lirios/ostree-upload/internal/token"
)

// RevokeTokens takes the tokens of these names out of the file at path, all of them
// or, on an error, none, and returns how many are left of those and of entries of oidc,
// by which somebody may get in. The file is changed as by AddToken.
func RevokeTokens(path string, names ...string) (left int, err error) {
	err = edit(path, false, func(old []byte) (text []byte, err error) {
		text, left, err = withoutTokens(old, names)
		return text, err
	})
	return left, err
}

// withoutTokens is the text of a configuration file without the tokens of these names.
func withoutTokens(old []byte, names []string) (text []byte, left int, err error) {
	text = tidied(old, time.Now())
	before, err := Parse(text)
	if err != nil {
		return nil, 0, err
	}
	var unknown []error
	for _, name := range names {
		if at(before.Tokens, name) < 0 {
			unknown = append(unknown, unknownToken(name, before, "`ostree-upload tokens` lists those there are"))
		}
	}
	if err := errors.Join(unknown...); err != nil {
		return nil, 0, err
	}
	for i, t := range slices.Backward(before.Tokens) {
		if !slices.Contains(names, t.Name) {
			continue
		}
		if text, err = withoutToken(text, i); err != nil {
			return nil, 0, hint.Add(err, "take the token %s out by hand: its name, sha256 and all else of its entry", t.Name)
		}
		left--
	}
	return text, left + len(before.Tokens) + len(before.OIDC), nil
}

// unknownToken says that there is no token of a name, and which there are that are
// almost called so, or else what to do.
func unknownToken(name string, c *Config, next string) error {
	if isTrust(c, name) {
		return hint.Add(fmt.Errorf("%s is no token, but an entry of oidc", name), "edit the entry by hand: a running server reads the file again")
	}
	names := make([]string, len(c.Tokens))
	for i := range c.Tokens {
		names[i] = c.Tokens[i].Name
	}
	if near := token.Near(name, names); len(near) > 0 {
		next = "is it " + strings.Join(near, " or ") + "? " + next
	}
	return hint.Add(fmt.Errorf("there is no token %.80q", name), "%s", next)
}

// withoutToken is the text of a configuration file without the token at this place.
func withoutToken(old []byte, at int) ([]byte, error) {
	c, err := Parse(old)
	if err != nil {
		return nil, err
	}
	if c.Tokens = slices.Delete(c.Tokens, at, at+1); len(c.Tokens) == 0 {
		c.Tokens = nil // as Parse has it
	}
	return rewritten(c,
		func() ([]byte, error) { return cutToken(old, at) },
		func() ([]byte, error) { return encodeWithout(old, at) })
}

// cutToken takes out the lines of a token, with the comments among them and those
// below that are indented as its keys are. A comment above it stays: it may be one on
// the tokens that follow.
func cutToken(old []byte, at int) ([]byte, error) {
	list, _, err := findTokens(old)
	if err != nil {
		return nil, err
	}
	lines := strings.SplitAfter(string(old), "\n")
	entry := list.Content[entryAt(list, at)]
	to := lastLine(entry)
	if list.Style&yaml.FlowStyle != 0 || to > len(lines) {
		return old, nil // not written as usual
	}
	for to < len(lines) && isInner(lines[to], list.Column) {
		to++
	}
	return []byte(strings.Join(slices.Delete(lines, entry.Line-1, to), "")), nil
}

// encodeWithout takes the token out of YAML's nodes and writes them all: comments and
// order stay, blank lines and indentation do not.
func encodeWithout(old []byte, at int) ([]byte, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(old, &doc); err != nil {
		return nil, err
	}
	list, _ := valueOf(doc.Content[0], "tokens")
	if list.Kind == yaml.AliasNode {
		list = list.Alias
	}
	at = entryAt(list, at)
	list.Content = slices.Delete(list.Content, at, at+1)
	return encoded(&doc)
}
