// SPDX-License-Identifier: AGPL-3.0-or-later

package config

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/lirios/ostree-upload/internal/hint"
	"github.com/lirios/ostree-upload/internal/token"

	"reflect"
	"slices"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

// AddToken appends a token to the list in the file at path, which is made
// (mode 0600) if it is not there, and leaves the rest of the file as it is.
// The file must be without faults before and is without faults after; it is
// replaced in one step, see replace. Two processes may do this at once.
func AddToken(path string, t token.Token) error {
	if err := t.Check(); err != nil {
		return err
	}
	return edit(path, true, func(old []byte) ([]byte, error) {
		return withToken(old, t)
	})
}

// withToken is the text of a configuration file with t as its last token.
func withToken(old []byte, t token.Token) ([]byte, error) {
	old = tidied(old, time.Now())
	before, err := Parse(old)
	if err != nil {
		return nil, err
	}
	if at(before.Tokens, t.Name) >= 0 {
		return nil, &nameTakenError{t.Name}
	}
	if isTrust(before, t.Name) {
		return nil, hint.Add(fmt.Errorf("there is an entry %s of oidc already", t.Name), "choose another --name: a session belongs to a name")
	}
	if err := before.checkBound(&t); err != nil {
		return nil, err
	}
	want := *before
	want.Tokens = append(slices.Clone(before.Tokens), t)
	text, err := rewritten(&want,
		func() ([]byte, error) { return insertToken(old, t) },
		func() ([]byte, error) { return encodeToken(old, t) })
	if err != nil {
		return nil, fmt.Errorf("add token %s: %w", t.Name, err)
	}
	return text, nil
}

// at is the place of the token of a name, -1 if there is none.
func at(tokens []token.Token, name string) int {
	return slices.IndexFunc(tokens, func(t token.Token) bool { return t.Name == name })
}

// isTrust tells whether a name is that of an entry of oidc.
func isTrust(c *Config, name string) bool {
	return slices.ContainsFunc(c.OIDC, func(t token.Trust) bool { return t.Name == name })
}

// nameTakenError says that there is a token of this name.
type nameTakenError struct{ name string }

func (e *nameTakenError) Error() string { return "there is a token " + e.name + " already" }
func (e *nameTakenError) Hint() string {
	return "choose another --name, or give this token another secret with --replace"
}

// rewritten is the first text that one of the ways makes and that says what is
// wanted.
//
// The first way puts lines into the text or takes them out where that will do, as
// YAML's own writer would drop blank lines and indent anew what people wrote.
// Whether it did is not argued but tried: the result is read back.
func rewritten(want *Config, ways ...func() ([]byte, error)) ([]byte, error) {
	fault := errors.New("the file is written in a way that cannot be edited; edit it by hand")
	for _, way := range ways {
		text, err := way()
		if err != nil {
			fault = err
			continue
		}
		if after, err := Parse(text); err == nil && reflect.DeepEqual(want, after) {
			return text, nil
		}
	}
	return nil, fault
}

// insertToken puts the lines of t behind the last token of a list that is
// written as YAML usually is.
func insertToken(old []byte, t token.Token) ([]byte, error) {
	entry := tokenLines(t)
	list, key, err := findTokens(old)
	if err != nil {
		return nil, err
	}
	lines := strings.SplitAfter(string(old), "\n")
	if last := &lines[len(lines)-1]; *last != "" {
		*last += "\n"
	}
	if key != nil && max(key.Line, lastLine(list)) > len(lines) {
		return nil, errors.New("it has line ends that only YAML takes for such")
	}
	switch {
	case key == nil:
		return join(lines, "tokens:\n", indent(entry, 2)), nil
	case list.Kind == yaml.SequenceNode && list.Style&yaml.FlowStyle == 0:
		at := lastLine(list)
		return join(lines[:at], indent(entry, list.Column-1), lines[at:]...), nil
	case list.Kind == yaml.SequenceNode && len(list.Content) == 0:
		line := &lines[list.Line-1]
		*line = strings.Replace(*line, " []", "", 1)
	case list.ShortTag() != "!!null":
		return nil, errors.New("tokens is written in one line")
	}
	at := key.Line
	for at < len(lines) && isInner(lines[at], key.Column) {
		at++
	}
	return join(lines[:at], indent(entry, key.Column+1), lines[at:]...), nil
}

// isInner tells a comment that is indented more than what stands in this column.
func isInner(line string, column int) bool {
	text := strings.TrimLeft(line, " ")
	return strings.HasPrefix(text, "#") && len(line)-len(text) >= column
}

// findTokens returns the value and the key of the file's list of tokens, and
// nils if there is none.
func findTokens(text []byte) (list, key *yaml.Node, err error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, nil, err
	}
	if doc.Kind == 0 {
		return nil, nil, nil
	}
	top := doc.Content[0].Content
	for i := 0; i+1 < len(top); i += 2 {
		if top[i].Value == "tokens" {
			return top[i+1], top[i], nil
		}
	}
	return nil, nil, nil
}

// entryAt is the index in the list's nodes of the token at this place: an entry
// without a value is none.
func entryAt(list *yaml.Node, at int) int {
	for i, n := range list.Content {
		if n.Kind == yaml.AliasNode {
			n = n.Alias
		}
		if n.ShortTag() != "!!null" {
			at--
		}
		if at < 0 {
			return i
		}
	}
	return len(list.Content) - 1 // not with a list that was parsed
}

// lastLine is the highest line on which a node of n starts. A value of several
// lines goes on behind it, which withToken then notices.
func lastLine(n *yaml.Node) int {
	line := n.Line
	for _, c := range n.Content {
		line = max(line, lastLine(c))
	}
	return line
}

func join(head []string, entry string, tail ...string) []byte {
	return []byte(strings.Join(head, "") + entry + strings.Join(tail, ""))
}

func indent(text string, by int) string {
	if text == "" {
		return ""
	}
	pad := strings.Repeat(" ", by)
	return pad + strings.ReplaceAll(strings.TrimSuffix(text, "\n"), "\n", "\n"+pad) + "\n"
}

// encodeToken reads the file into YAML's nodes, appends t and writes them all:
// comments and order stay, blank lines and indentation do not.
func encodeToken(old []byte, t token.Token) ([]byte, error) {
	var doc, entry yaml.Node
	if err := yaml.Unmarshal(old, &doc); err != nil {
		return nil, err
	}
	if err := yaml.Unmarshal([]byte("tokens:\n"+tokenLines(t)), &entry); err != nil {
		return nil, err
	}
	addition := entry.Content[0]
	if doc.Kind == 0 {
		doc = entry
	} else if err := mergeTokens(doc.Content[0], addition); err != nil {
		return nil, err
	}
	return encoded(&doc)
}

func encoded(doc *yaml.Node) ([]byte, error) {
	var out bytes.Buffer
	e := yaml.NewEncoder(&out)
	e.SetIndent(2)
	if err := e.Encode(doc); err != nil {
		return nil, err
	}
	return out.Bytes(), e.Close()
}

// mergeTokens appends the tokens of addition to those of the mapping top.
func mergeTokens(top, addition *yaml.Node) error {
	if top.Kind != yaml.MappingNode { // null, with comments perhaps
		top.Kind, top.Tag, top.Value = yaml.MappingNode, "!!map", ""
	}
	for i := 0; i+1 < len(top.Content); i += 2 {
		if top.Content[i].Value != "tokens" {
			continue
		}
		list := top.Content[i+1]
		if list.Kind == yaml.AliasNode {
			return errors.New("tokens is an alias")
		}
		if list.Kind != yaml.SequenceNode {
			list.Kind, list.Tag, list.Value = yaml.SequenceNode, "!!seq", ""
		}
		list.Content = append(list.Content, addition.Content[1].Content...)
		return nil
	}
	top.Content = append(top.Content, addition.Content...)
	return nil
}

// tokenLines is t as an entry of the list, each line ended.
func tokenLines(t token.Token) string {
	var b strings.Builder
	fmt.Fprintf(&b, "- name: %s\n", scalar(t.Name))
	fmt.Fprintf(&b, "  sha256: %s\n", scalar(t.SHA256))
	if !t.Created.IsZero() {
		fmt.Fprintf(&b, "  created: %s\n", t.Created.UTC().Format(time.RFC3339))
	}
	if !t.Expires.IsZero() {
		fmt.Fprintf(&b, "  expires: %s\n", t.Expires.UTC().Format(time.RFC3339))
	}
	if t.Refs != nil {
		fmt.Fprintf(&b, "  refs: [%s]\n", quoted(*t.Refs))
	}
	fmt.Fprintf(&b, "  scopes: [%s]\n", strings.Join(t.Scopes, ", "))
	if t.Repositories != nil {
		fmt.Fprintf(&b, "  repositories: [%s]\n", quoted(*t.Repositories))
	}
	return b.String() + indent(previousLines(t.Previous), 2)
}

// previousLines is the key of the secrets that a token had before, "" if there are
// none.
func previousLines(secrets []token.Secret) string {
	if len(secrets) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("previous:\n")
	for _, s := range secrets {
		fmt.Fprintf(&b, "  - sha256: %s\n    until: %s\n", scalar(s.SHA256), s.Until.UTC().Format(time.RFC3339))
	}
	return b.String()
}

// scalar writes s as YAML would, in quotes where it would be read as something
// other than a word.
func scalar(s string) string {
	text, err := yaml.Marshal(s)
	if err != nil { // no string fails to be written
		panic(err)
	}
	return strings.TrimSuffix(string(text), "\n")
}

func quoted(words []string) string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = fmt.Sprintf("%q", w)
	}
	return strings.Join(out, ", ")
}
