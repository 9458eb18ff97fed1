// SPDX-License-Identifier: AGPL-3.0-or-later

package token

import "time"

// A List is a document of tokens, with nothing in it that could be used in their place.
type List struct {
	Tokens []Listed      `json:"tokens"`
	OIDC   []ListedTrust `json:"oidc"`
}

// Listed is a token as a list shows it, without its secret. Times are nil where there
// is none.
type Listed struct {
	Name     string      `json:"name"`
	Scopes   []string    `json:"scopes"`
	Refs     *[]string   `json:"refs"` // globs; nil: all refs, empty: none
	Created  *time.Time  `json:"created"`
	Expires  *time.Time  `json:"expires"`
	Expired  bool        `json:"expired"`
	LastUse  *time.Time  `json:"last-use"`
	Previous []time.Time `json:"previous-until"` // for each earlier secret that still works

	Repositories *[]string `json:"repositories"` // names; nil: all, empty: none
}

// ListedTrust is a Trust as a list shows it: what who matches it may do.
type ListedTrust struct {
	Name    string     `json:"name"`
	Scopes  []string   `json:"scopes"`
	Refs    *[]string  `json:"refs"` // as of a Listed
	Issuer  string     `json:"issuer"`
	LastUse *time.Time `json:"last-use"`

	Repositories *[]string `json:"repositories"` // as of a Listed
}

// NewList lists those of some tokens and trusts for whose names shown holds true, with
// when they were last used.
func NewList(tokens []Token, trusts []Trust, used map[string]time.Time, now time.Time, shown func(name string) bool) List {
	list := List{Tokens: []Listed{}, OIDC: []ListedTrust{}}
	for i := range tokens {
		if t := &tokens[i]; shown(t.Name) {
			list.Tokens = append(list.Tokens, t.listed(used, now))
		}
	}
	for _, t := range trusts {
		if shown(t.Name) {
			list.OIDC = append(list.OIDC, ListedTrust{Name: t.Name, Scopes: t.Scopes, Refs: t.Refs, Repositories: t.Repositories, Issuer: t.Issuer, LastUse: unlessZero(used[t.Name])})
		}
	}
	return list
}

func (t *Token) listed(used map[string]time.Time, now time.Time) Listed {
	s := Listed{
		Name: t.Name, Scopes: t.Scopes, Refs: t.Refs, Repositories: t.Repositories, Created: unlessZero(t.Created), Expires: unlessZero(t.Expires),
		Expired: t.Expired(now), LastUse: unlessZero(used[t.Name]), Previous: []time.Time{},
	}
	for _, p := range t.Previous {
		if !p.Over(now) && !s.Expired {
			s.Previous = append(s.Previous, p.Until)
		}
	}
	return s
}

func unlessZero(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
