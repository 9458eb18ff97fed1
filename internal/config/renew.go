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

// ReplaceToken puts t in the place of the token of its name in the file at path, and
// returns it as it is there now. What t leaves empty stays as it was: refs, scopes,
// and how long it is valid from its creation on. The secrets that worked before may
// still be used for the overlap. The file is changed as by AddToken.
func ReplaceToken(path string, t token.Token, overlap time.Duration) (replaced token.Token, err error) {
	err = edit(path, false, func(old []byte) (text []byte, err error) {
		text, replaced, err = withRenewed(old, t, overlap)
		return text, err
	})
	return replaced, err
}

// withRenewed is the text of a configuration file with t in the place of the token of
// its name.
func withRenewed(old []byte, t token.Token, overlap time.Duration) ([]byte, token.Token, error) {
	old = tidied(old, time.Now())
	before, err := Parse(old)
	if err != nil {
		return nil, t, err
	}
	at := at(before.Tokens, t.Name)
	if at < 0 {
		return nil, t, unknownToken(t.Name, before, "leave --replace out to make a new one")
	}
	if err := errors.Join(inherit(&t, &before.Tokens[at]), before.checkBound(&t)); err != nil {
		return nil, t, err
	}
	if overlap > 0 {
		t.Previous = previous(&before.Tokens[at], &t, t.Created.Add(overlap))
	}
	text, err := withPut(old, before, at, t)
	if err != nil {
		return nil, t, fmt.Errorf("replace token %s: %w", t.Name, err)
	}
	return text, t, nil
}

// previous is what still works of a token that t replaces: its secret until then, and
// earlier ones until their own time. None outlives the token, as it was or as it is.
func previous(old, t *token.Token, then time.Time) (secrets []token.Secret) {
	for _, s := range append(slices.Clone(old.Previous), token.Secret{SHA256: old.SHA256, Until: then}) {
		for _, end := range []time.Time{old.Expires, t.Expires} {
			if !end.IsZero() && end.Before(s.Until) {
				s.Until = end
			}
		}
		if !s.Over(t.Created) {
			secrets = append(secrets, s)
		}
	}
	return secrets
}

// mostTidied bounds of how many tokens an edit takes out secrets: for each of them the
// whole file is read anew. The next edit goes on.
const mostTidied = 10

// tidied is the text of a configuration file without the secrets whose time is over, of
// mostTidied tokens. One that cannot be taken out stays, as it opens nothing.
func tidied(text []byte, now time.Time) []byte {
	c, err := Parse(text)
	if err != nil {
		return text
	}
	tried := 0
	for i, t := range c.Tokens {
		t.Previous = slices.DeleteFunc(slices.Clone(t.Previous), func(s token.Secret) bool { return s.Over(now) })
		if len(t.Previous) == len(c.Tokens[i].Previous) {
			continue
		}
		if tried++; tried > mostTidied {
			break
		}
		if less, err := withPut(text, c, i, t); err == nil {
			if c, err = Parse(less); err != nil { // not of what withPut has read
				return text
			}
			text = less
		}
	}
	return text
}

// withPut is the text of a configuration file, which says c, with t in the place of
// a token.
func withPut(old []byte, c *Config, at int, t token.Token) ([]byte, error) {
	want := *c
	want.Tokens = slices.Clone(c.Tokens)
	if len(t.Previous) == 0 {
		t.Previous = nil
	}
	want.Tokens[at] = t
	return rewritten(&want,
		func() ([]byte, error) { return renewLines(old, at, t, &c.Tokens[at]) },
		func() ([]byte, error) { return encodeRenewed(old, at, t) })
}

// inherit takes over from old what t leaves empty.
func inherit(t, old *token.Token) error {
	if t.Refs == nil {
		t.Refs = old.Refs
	}
	if t.Scopes == nil {
		t.Scopes = old.Scopes
	}
	if t.Repositories == nil {
		t.Repositories = old.Repositories
	}
	if t.Expires.IsZero() && !old.Expires.IsZero() {
		if old.Created.IsZero() {
			return hint.Add(fmt.Errorf("token %s expires, and the file does not say for how long it was made", t.Name), "give --expires")
		}
		t.Expires = t.Created.Add(old.Expires.Sub(old.Created))
	}
	return t.Check()
}

// renewLines changes the values of the token at this place of the list, each within
// its line, and adds or takes out lines for what was not there or is no more.
func renewLines(old []byte, at int, t token.Token, before *token.Token) ([]byte, error) {
	list, _, err := findTokens(old)
	if err != nil {
		return nil, err
	}
	lines := strings.SplitAfter(string(old), "\n")
	if last := &lines[len(lines)-1]; *last != "" {
		*last += "\n"
	}
	entry := list.Content[entryAt(list, at)]
	hash, hashKey := valueOf(entry, "sha256")
	if hash == nil || hashKey.Line == entry.Line && entry.Style&yaml.FlowStyle != 0 || lastLine(entry) > len(lines) {
		return old, nil // not written as usual
	}
	setScalar(lines, hash, t.SHA256)
	if t.Refs != nil && (before.Refs == nil || !slices.Equal(*t.Refs, *before.Refs)) {
		setList(lines, entry, hashKey, "refs", quoted(*t.Refs))
	}
	if t.Repositories != nil && (before.Repositories == nil || !slices.Equal(*t.Repositories, *before.Repositories)) {
		setList(lines, entry, hashKey, "repositories", quoted(*t.Repositories))
	}
	if !slices.Equal(t.Scopes, before.Scopes) {
		setList(lines, entry, hashKey, "scopes", strings.Join(t.Scopes, ", "))
	}
	setTime(lines, entry, hashKey, "created", t.Created)
	setTime(lines, entry, hashKey, "expires", t.Expires)
	if secrets, key := valueOf(entry, "previous"); secrets != nil {
		clear(lines[key.Line-1 : lastLine(secrets)])
	}
	lines[lastLine(entry)-1] += indent(previousLines(t.Previous), hashKey.Column-1)
	return []byte(strings.Join(lines, "")), nil
}

// setTime puts a time in the place of the one that a key of the entry has, or behind the
// hash.
func setTime(lines []string, entry, hashKey *yaml.Node, name string, at time.Time) {
	text := at.UTC().Format(time.RFC3339)
	if value, _ := valueOf(entry, name); value != nil {
		setScalar(lines, value, text)
	} else if !at.IsZero() {
		lines[hashKey.Line-1] += indent(name+": "+text, hashKey.Column-1)
	}
}

// setList puts a list in the place of the one that a key of the entry has, or behind the
// hash. One of several lines becomes one, unless a comment is in it.
func setList(lines []string, entry, hashKey *yaml.Node, name, words string) {
	list, key := valueOf(entry, name)
	text := "[" + words + "]"
	switch {
	case list == nil:
		lines[hashKey.Line-1] += indent(name+": "+text, hashKey.Column-1)
	case list.Kind == yaml.SequenceNode && list.Style&yaml.FlowStyle != 0:
		line := &lines[list.Line-1]
		head, was := (*line)[:list.Column-1], (*line)[list.Column-1:]
		*line = head + text + was[strings.IndexByte(was, ']')+1:]
	case !strings.Contains(strings.Join(lines[key.Line:lastLine(list)], ""), "#"):
		line := &lines[key.Line-1]
		*line = (*line)[:key.Column-1] + strings.Replace((*line)[key.Column-1:], ":", ": "+text, 1)
		clear(lines[key.Line:lastLine(list)])
	}
}

// setScalar puts text in the place of a scalar that stands in one line. Whether it
// did is seen by reading all of it again.
func setScalar(lines []string, n *yaml.Node, text string) {
	line := &lines[min(n.Line, len(lines))-1]
	from := min(n.Column-1, len(*line))
	*line = (*line)[:from] + strings.Replace((*line)[from:], n.Value, text, 1)
}

// valueOf returns the value and the key of a mapping's entry, nils if it has none.
func valueOf(mapping *yaml.Node, name string) (value, key *yaml.Node) {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == name {
			return mapping.Content[i+1], mapping.Content[i]
		}
	}
	return nil, nil
}

// encodeRenewed changes the token at this place of the list in YAML's nodes and writes
// them all: comments and order stay, blank lines and indentation do not.
func encodeRenewed(old []byte, at int, t token.Token) ([]byte, error) {
	var doc, with yaml.Node
	if err := errors.Join(yaml.Unmarshal(old, &doc), yaml.Unmarshal([]byte(tokenLines(t)), &with)); err != nil {
		return nil, err
	}
	list, _ := valueOf(doc.Content[0], "tokens")
	if list.Kind == yaml.AliasNode {
		list = list.Alias
	}
	entry := list.Content[entryAt(list, at)]
	if entry.Kind == yaml.AliasNode {
		entry = entry.Alias
	}
	if plain, key := valueOf(entry, "token"); plain != nil { // the older form
		key.Value, plain.Style = "sha256", 0
	}
	removeKey(entry, "previous")
	wanted := with.Content[0].Content[0].Content
	for i := 0; i+1 < len(wanted); i += 2 {
		value, _ := valueOf(entry, wanted[i].Value)
		if value == nil {
			entry.Content = append(entry.Content, wanted[i], wanted[i+1])
			continue
		}
		head, line, foot := value.HeadComment, value.LineComment, value.FootComment
		*value = *wanted[i+1]
		value.HeadComment, value.LineComment, value.FootComment = head, line, foot
	}
	return encoded(&doc)
}

func removeKey(mapping *yaml.Node, name string) {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == name {
			mapping.Content = slices.Delete(mapping.Content, i, i+2)
			return
		}
	}
}
