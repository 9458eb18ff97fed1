// SPDX-License-Identifier: AGPL-3.0-or-later

package token

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Trust says whose ID tokens (OpenID Connect) are taken in the place of a token:
// those of the issuer, for the audience, whose claims match. Who has one may do what a
// token of the Trust's name, refs and scopes may.
type Trust struct {
	Issuer   string
	Audience string
	Claims   map[string][]string // globs by the name of a claim; one of each has to match
	Name     string
	Refs     *[]string // as of a Token
	Scopes   []string

	Repositories *[]string // as of a Token
}

// MayUse reports whether who matches may use a repository.
func (t *Trust) MayUse(repository string) bool { return mayUse(t.Repositories, repository) }

// Token is what who matches may do until expires, zero for as long as the Trust is
// there.
func (t *Trust) Token(expires time.Time) *Token {
	return &Token{Name: t.Name, Refs: t.Refs, Scopes: t.Scopes, Repositories: t.Repositories, Expires: expires}
}

// Match reports why an ID token with these claims is not one that the Trust means, nil
// if it is. The claims are as encoding/json decodes them with UseNumber. The error is a
// *Mismatch.
func (t *Trust) Match(claims map[string]any) error {
	if issuer := words(claims["iss"]); len(issuer) != 1 || issuer[0] != t.Issuer {
		return &Mismatch{Issuer, "issuer", issuer, []string{t.Issuer}}
	}
	if audience := words(claims["aud"]); !slices.Contains(audience, t.Audience) {
		return &Mismatch{Audience, "audience", audience, []string{t.Audience}}
	}
	for _, name := range slices.Sorted(maps.Keys(t.Claims)) {
		if got := words(claims[name]); !anyMatches(t.Claims[name], got) {
			return &Mismatch{Claim, "claim " + name, got, t.Claims[name]}
		}
	}
	return nil
}

func anyMatches(globs, values []string) bool {
	return slices.ContainsFunc(values, func(v string) bool {
		return slices.ContainsFunc(globs, func(g string) bool { return MatchGlob(g, v) })
	})
}

// Part is what of an ID token a Trust looks at, in this order.
type Part int

const (
	Issuer Part = iota
	Audience
	Claim
)

// Mismatch is the first difference between an ID token and a Trust. Its text repeats
// what both say: it is for the log.
type Mismatch struct {
	Part      Part
	what      string
	Got, want []string
}

func (m *Mismatch) Error() string {
	if len(m.Got) == 0 {
		return fmt.Sprintf("it has no %s, which is to be %s", m.what, Quoted(m.want))
	}
	return fmt.Sprintf("its %s is %s, and is to be %s", m.what, Quoted(m.Got), Quoted(m.want))
}

// mostQuoted bounds what an error repeats of an ID token.
const mostQuoted = 200

// Quoted lists values of a claim for a message, the first of them if they are long.
func Quoted(values []string) string {
	list := make([]string, len(values))
	for i, v := range values {
		list[i] = strconv.QuoteToASCII(v)
	}
	text := strings.Join(list, " or ")
	if len(text) > mostQuoted {
		text = text[:mostQuoted] + "..."
	}
	return text
}

// words are the values of a claim as they are written: one for a text, a number, true
// or false, any number for a list of these, and none for anything else.
func words(claim any) []string {
	switch v := claim.(type) {
	case string:
		return []string{v}
	case bool:
		return []string{strconv.FormatBool(v)}
	case json.Number:
		return []string{v.String()}
	case []any:
		var all []string
		for _, item := range v {
			if _, nested := item.([]any); !nested {
				all = append(all, words(item)...)
			}
		}
		return all
	}
	return nil
}

// CheckClaimGlob reports what is no glob of a claim's values. Stars are as in globs of
// refs, and all else stands for itself.
func CheckClaimGlob(glob string) error {
	if strings.Contains(glob, "***") {
		return fmt.Errorf("%q has more than two stars in a row", glob)
	}
	return nil
}
