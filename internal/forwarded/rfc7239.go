// SPDX-License-Identifier: AGPL-3.0-or-later

package forwarded

import "strings"

// parseForwarded reads the addresses in a Forwarded header (RFC 7239, 4): elements
// between commas, each of pairs between semicolons. An element that tells none is "".
// If anything in it is not of that form, nothing of it counts.
func parseForwarded(s string) (nodes []string, ok bool) {
	p := &reader{s}
	for {
		node, empty, ok := p.element()
		if !ok {
			return nil, false
		}
		if !empty {
			nodes = append(nodes, node)
		}
		if p.rest == "" {
			return nodes, true
		}
		if !p.take(',') {
			return nil, false
		}
	}
}

// A reader takes what it reads off the front.
type reader struct{ rest string }

func (r *reader) skipSpace() { r.rest = strings.TrimLeft(r.rest, " \t") }

func (r *reader) take(c byte) bool {
	if r.rest == "" || r.rest[0] != c {
		return false
	}
	r.rest = r.rest[1:]
	return true
}

// element reads up to a comma or the end; lists may have empty ones.
func (r *reader) element() (node string, empty, ok bool) {
	empty = true
	seen := map[string]bool{}
	for {
		r.skipSpace()
		if r.rest == "" || r.rest[0] == ',' {
			return node, empty, true
		}
		if r.take(';') {
			continue
		}
		name, value, ok := r.pair()
		if !ok || seen[name] {
			return "", false, false
		}
		empty, seen[name] = false, true
		if name == "for" {
			node = value
		}
		r.skipSpace()
		if r.rest != "" && r.rest[0] != ';' && r.rest[0] != ',' {
			return "", false, false
		}
	}
}

// pair reads name=value. Names are the same in upper and lower case.
func (r *reader) pair() (name, value string, ok bool) {
	name = strings.ToLower(r.token())
	if name == "" || !r.take('=') {
		return "", "", false
	}
	if r.take('"') {
		value, ok = r.quoted()
		return name, value, ok
	}
	value = r.token()
	return name, value, value != ""
}

func (r *reader) token() string {
	end := strings.IndexFunc(r.rest, func(c rune) bool { return !isTokenRune(c) })
	if end < 0 {
		end = len(r.rest)
	}
	t := r.rest[:end]
	r.rest = r.rest[end:]
	return t
}

// quoted reads to the end of a quoted string.
func (r *reader) quoted() (value string, ok bool) {
	var b strings.Builder
	for r.rest != "" {
		c := r.rest[0]
		r.rest = r.rest[1:]
		switch {
		case c == '"':
			return b.String(), true
		case c == '\\' && r.rest != "":
			c = r.rest[0]
			r.rest = r.rest[1:]
		}
		b.WriteByte(c)
	}
	return "", false
}

// isTokenRune tells what a token may have (RFC 9110, 5.6.2), and also the colon and the
// brackets of addresses, which many write without quotes.
func isTokenRune(c rune) bool {
	return c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || strings.ContainsRune("!#$%&'*+-.^_`|~:[]", c)
}
