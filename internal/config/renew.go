// SPDX-License-Identifier: AGPL-3.0-or-later

package config

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/lirios/ostree-upload/internal/token"
)

// ReplaceToken puts t in the place of the token of its name in the file at path, and
// returns it as it is there now. What t leaves empty stays as it was: refs, scopes,
// and how long it is valid from its creation on. The file is changed as by AddToken.
func ReplaceToken(path string, t token.Token) (replaced token.Token, err error) {
	err = edit(path, func(old []byte) (text []byte, err error) {
		text, replaced, err = withRenewed(old, t)
		return text, err
	})
	return replaced, err
}

// withRenewed is the text of a configuration file with t in the place of the token of
// its name. Values are put into the text where that will do, as in withToken.
func withRenewed(old []byte, t token.Token) ([]byte, token.Token, error) {
	before, err := Parse(old)
	if err != nil {
		return nil, t, err
	}
	at := slices.IndexFunc(before.Tokens, func(o token.Token) bool { return o.Name == t.Name })
	if at < 0 {
		return nil, t, &renewError{"there is no token " + t.Name + " to replace", "leave --replace out to make a new one"}
	}
	if err := inherit(&t, &before.Tokens[at]); err != nil {
		return nil, t, err
	}
	want := *before
	want.Tokens = slices.Clone(before.Tokens)
	want.Tokens[at] = t
	for _, renew := range []func([]byte, int, token.Token) ([]byte, error){renewLines, encodeRenewed} {
		text, err := renew(old, at, t)
		if err != nil {
			return nil, t, err
		}
		if after, err := Parse(text); err == nil && reflect.DeepEqual(&want, after) {
			return text, t, nil
		}
	}
	return nil, t, fmt.Errorf("replace token %s: %w", t.Name,
		errors.New("the file is written in a way that a token cannot be replaced; replace it by hand"))
}

// renewError says why a token is not replaced, and what to do instead.
type renewError struct{ text, hint string }

func (e *renewError) Error() string { return e.text }
func (e *renewError) Hint() string  { return e.hint }

// inherit takes over from old what t leaves empty.
func inherit(t, old *token.Token) error {
	if t.Refs == nil {
		t.Refs = old.Refs
	}
	if t.Scopes == nil {
		t.Scopes = old.Scopes
	}
	if t.Expires.IsZero() && !old.Expires.IsZero() {
		if old.Created.IsZero() {
			return &renewError{"token " + t.Name + " expires, and the file does not say for how long it was made", "give --expires"}
		}
		t.Expires = t.Created.Add(old.Expires.Sub(old.Created))
	}
	return t.Check()
}

// renewLines changes the values of the token at this place of the list, each within
// its line, and adds lines for what was not there.
func renewLines(old []byte, at int, t token.Token) ([]byte, error) {
	list, _, err := findTokens(old)
	if err != nil {
		return nil, err
	}
	lines := strings.SplitAfter(string(old), "\n")
	entry := list.Content[at]
	hash, hashKey := valueOf(entry, "sha256")
	if hash == nil || hashKey.Line == entry.Line && entry.Style&yaml.FlowStyle != 0 {
		return old, nil // not written as usual
	}
	setScalar(lines, hash, t.SHA256)
	for key, at := range map[string]time.Time{"created": t.Created, "expires": t.Expires} {
		text := at.UTC().Format(time.RFC3339)
		if value, _ := valueOf(entry, key); value != nil {
			setScalar(lines, value, text)
		} else if !at.IsZero() {
			lines[hashKey.Line-1] += indent(key+": "+text, hashKey.Column-1)
		}
	}
	return []byte(strings.Join(lines, "")), nil
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
	entry := list.Content[at]
	if entry.Kind == yaml.AliasNode {
		entry = entry.Alias
	}
	if plain, key := valueOf(entry, "token"); plain != nil { // the older form
		key.Value, plain.Style = "sha256", 0
	}
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
	var out bytes.Buffer
	e := yaml.NewEncoder(&out)
	e.SetIndent(2)
	if err := e.Encode(&doc); err != nil {
		return nil, err
	}
	return out.Bytes(), e.Close()
}
