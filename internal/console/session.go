// SPDX-License-Identifier: AGPL-3.0-or-later

package console

import (
	"net/url"
	"slices"
	"time"

	"github.com/lirios/ostree-upload/internal/token"
	"github.com/lirios/ostree-upload/internal/wire"
)

// sessionPage is what the page of a session shows.
type sessionPage struct {
	wire.Session
	Speed   speed
	May     []act  // what the token may do with it
	AllRefs bool   // they were asked for
	Refs    []move // of the session, with what is known of their commits
}

// There is how many of its objects the server has.
func (s *sessionPage) There() int64 { return s.Objects.Known - s.Objects.Missing }

// More is how many of its refs are not shown.
func (s *sessionPage) More() int64 { return int64(max(0, s.RefCount-len(s.Refs))) }

// move is a ref with what is known of its commits.
type move struct {
	wire.Ref
	From, To wire.CommitInfo
}

// readSession asks for the session of the request's path, with the first of its refs and
// problems or, on demand, with all.
func (r *request) readSession(all bool) (*sessionPage, error) {
	who, err := r.who()
	if err != nil {
		return nil, err
	}
	p, query := &sessionPage{AllRefs: all}, url.Values{"commits": {"1"}}
	if !all {
		query.Set("few", "1")
	}
	if err := r.get(&p.Session, "/api/v1/sessions/"+url.PathEscape(r.PathValue("id")), query); err != nil {
		return nil, err
	}
	p.Speed = r.console.rates.of(r.repository, &p.Session, time.Now())
	for _, ref := range p.Session.Refs {
		p.Refs = append(p.Refs, move{ref, p.Commits[ref.Old], p.Commits[ref.New]})
	}
	p.May = actsFor(holder(who.Token), &p.Session)
	return p, nil
}

// holder is who has signed in as the rules for tokens know them.
func holder(t wire.InfoToken) *token.Token {
	return &token.Token{Name: t.Name, Scopes: t.Scopes, Refs: t.Refs}
}

func sessionView(r *request) (*view, error) {
	all := r.URL.Query().Has("all")
	s, err := r.readSession(all)
	if err != nil {
		return nil, err
	}
	v := &view{Title: "Session " + s.ID, Nav: "sessions", Every: time.Second}
	for _, name := range []string{"session", "actions", "session-refs", "objects", "uploads", "problems", "after"} {
		v.Sections = append(v.Sections, section{name, name, s})
	}
	if all || !slices.Contains(live, s.State) && len(s.Following()) == 0 {
		v.Every = 0
	}
	return v, nil
}

// act is something that can be done with a session.
type act struct {
	Name  string // the last part of its path
	Label string
	Does  string // what it does, in words
	Grave bool   // it cannot be undone
	Field string // what has to be told, "" for nothing
}

var acts = []act{
	{Name: "publish", Label: "Publish", Does: "The refs move to these commits as soon as the server has verified them again."},
	{Name: "reject", Label: "Reject", Does: "The session ends and its refs stay where they are.", Grave: true, Field: "Reason"},
	{Name: "abort", Label: "Abort", Does: "The session ends, what it has sent is dropped, and its refs stay where they are.", Grave: true},
	{Name: "owner", Label: "Hand over", Does: "The session belongs to that token from now on, which goes on with it.", Field: "Name of the token"},
}

// actsFor are what a token may do with a session in its state, as the API would answer. Of
// a session with many refs it may turn out later that the token may not.
func actsFor(t *token.Token, s *wire.Session) (may []act) {
	can := map[string]bool{
		"publish": s.State == wire.Held && t.CheckPublish(refNames(s)) == nil,
		"abort":   (s.State == wire.Open || s.State == wire.Verifying || s.State == wire.Held) && t.Sees(s.Token),
		"owner":   slices.Contains(live, s.State) && t.May(token.Sessions),
	}
	can["reject"] = can["publish"]
	for _, a := range acts {
		if can[a.Name] {
			may = append(may, a)
		}
	}
	return may
}

func refNames(s *wire.Session) func(func(string) bool) {
	return func(yield func(string) bool) {
		for _, ref := range s.Refs {
			if !yield(ref.Ref) {
				return
			}
		}
	}
}

// sessionsView is the list of all sessions, a page of it.
func sessionsView(r *request) (*view, error) {
	asked := r.URL.Query()
	q := url.Values{}
	for _, key := range []string{"state", "before", "limit"} {
		if value := asked.Get(key); value != "" {
			q.Set(key, value)
		}
	}
	list, err := r.list(q)
	if err != nil {
		return nil, err
	}
	page := sessionsPage{States: wire.States, State: q.Get("state"), Next: list.Next, Limit: q.Get("limit")}
	for _, s := range list.Sessions {
		page.Rows = append(page.Rows, r.row(s))
	}
	every := max(2*time.Second, time.Duration(len(page.Rows))*10*time.Millisecond) // a long list costs more
	return &view{Title: "Sessions", Nav: "sessions", Every: every, Sections: []section{{"sessions", "sessions", page}}}, nil
}

type sessionsPage struct {
	Rows        []sessionRow
	States      []string
	State       string // those in it alone
	Limit, Next string
}
