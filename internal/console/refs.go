// SPDX-License-Identifier: AGPL-3.0-or-later

package console

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/token"
	"github.com/lirios/ostree-upload/internal/wire"
)

// How many refs a page of the list has, how many moves one of a history, and how often
// they are looked at again.
const (
	mostRefs  = 100
	mostMoves = 50
	refsEvery = 10 * time.Second
)

// refsPage is the list of refs.
type refsPage struct {
	Search string
	Rows   []refRow
	Next   string
}

type refRow struct {
	Name string
	wire.RefState
}

// refsView lists the refs whose names have what is searched for.
func refsView(r *request) (*view, error) {
	p := refsPage{Search: r.URL.Query().Get("q")}
	q := url.Values{"limit": {strconv.Itoa(mostRefs)}, "moved": {"1"}, "all": {"1"}}
	switch {
	case strings.Contains(p.Search, "*") && strings.HasSuffix(p.Search, "/"): // more of it is about to be typed
		q.Set("glob", p.Search+"**")
	case strings.Contains(p.Search, "*"):
		q.Set("glob", p.Search)
	case p.Search != "":
		q.Set("glob", "**"+p.Search+"**")
	}
	if after := r.URL.Query().Get("after"); after != "" {
		q.Set("after", after)
	}
	var list wire.RefList
	if err := r.get(&list, "/api/v1/refs", q); err != nil {
		return nil, err
	}
	p.Next = list.Next
	for _, name := range slices.Sorted(maps.Keys(list.Refs)) {
		p.Rows = append(p.Rows, refRow{name, list.Refs[name]})
	}
	return &view{Title: "Refs", Nav: "refs", Every: refsEvery, Sections: []section{{"search", "ref-search", p}, {"refs", "refs", p}}}, nil
}

// refPage is one ref and its history.
type refPage struct {
	Name    string
	Now     wire.RefState
	There   bool // there is such a ref
	Moves   []historyRow
	Next    string
	MayMove bool
}

type historyRow struct {
	wire.RefMove
	From, To wire.CommitInfo
	Current  bool // the ref names To
}

// readRef asks what a ref is now, and whether the token may move it.
func (r *request) readRef(name string) (p refPage, err error) {
	who, err := r.who()
	if err != nil {
		return p, err
	}
	if err := ostree.ValidateRef(name); err != nil {
		return p, wire.Errorf(wire.BadRequest, "%v", err)
	}
	var list wire.RefList
	if err := r.get(&list, "/api/v1/refs", url.Values{"glob": {name}, "all": {"1"}}); err != nil {
		return p, err
	}
	p.Name = name
	p.Now, p.There = list.Refs[name]
	p.MayMove = p.There && p.Now.Alias == "" && holder(who.Token).CheckMoves(moving(name, false)) == nil
	return p, nil
}

// moving is what a token is asked about that is to move a ref among commits.
func moving(ref string, force bool) token.Moves {
	return token.Moves{Force: force, Promote: true, Refs: func(yield func(string, bool) bool) { yield(ref, false) }}
}

func refView(r *request) (*view, error) {
	asked := r.URL.Query()
	p, err := r.readRef(asked.Get("name"))
	if err != nil {
		return nil, err
	}
	q := url.Values{"limit": {strconv.Itoa(mostMoves)}, "commits": {"1"}}
	if before := asked.Get("before"); before != "" {
		q.Set("before", before)
	}
	var log wire.RefLog
	if err := r.get(&log, "/api/v1/refs/"+p.Name+"/log", q); err != nil {
		return nil, err
	}
	p.Next = log.Next
	for _, m := range log.Moves {
		p.Moves = append(p.Moves, historyRow{m, log.Commits[m.Old], log.Commits[m.New], m.New == p.Now.Commit})
	}
	v := &view{Title: "Ref " + p.Name, Nav: "refs", Every: refsEvery, Sections: []section{{"ref", "ref", p}}}
	if p.MayMove {
		v.Sections = append(v.Sections, section{"set", "ref-set", p})
	}
	v.Sections = append(v.Sections, section{"history", "history", p})
	return v, nil
}

// refMove is a move of a ref that is to be confirmed.
type refMove struct {
	Ref, Old, New string
	From, To      wire.CommitInfo
	Source        string // the ref that New was taken from, "" if it was given itself
}

// confirmMove asks whether a ref is to be set to a commit, or to that of another ref.
func confirmMove(r *request) (*view, error) {
	asked := r.URL.Query()
	p, err := r.readRef(asked.Get("name"))
	if err != nil {
		return nil, err
	}
	if !p.MayMove {
		return nil, wire.Errorf(wire.Forbidden, "this token may not move ref %s, or there is no such ref", p.Name).
			WithHint("sign in with a token of scope promote for it")
	}
	m := &refMove{Ref: p.Name, Old: p.Now.Commit}
	if m.New, m.Source, err = r.commitOf(strings.TrimSpace(asked.Get("to"))); err != nil {
		return nil, err
	}
	if m.New == m.Old {
		return nil, wire.Errorf(wire.BadRequest, "ref %s names commit %s already", m.Ref, m.New)
	}
	var log wire.RefLog // if nothing is remembered of the ref, the commits have no words
	if err := r.get(&log, "/api/v1/refs/"+p.Name+"/log", url.Values{"commits": {"1"}, "limit": {strconv.Itoa(mostMoves)}}); err == nil {
		m.From, m.To = log.Commits[m.Old], log.Commits[m.New]
	}
	c := confirmation{Act: act{Label: "Move", Does: "The ref names that commit as soon as the server has seen that all of it is there.", Grave: true}, Move: m, Back: "page/ref?name=" + url.QueryEscape(m.Ref)}
	return &view{Title: "Move ref " + m.Ref + "?", Nav: "refs", Sections: []section{{"confirm", "confirm", c}}}, nil
}

// commitOf is a commit that is given, or that a ref names which is given.
func (r *request) commitOf(given string) (commit, source string, err error) {
	if _, err := ostree.ParseChecksum(given); err == nil {
		return given, "", nil
	}
	var list wire.RefList
	if ostree.ValidateRef(given) == nil {
		if err := r.get(&list, "/api/v1/refs", url.Values{"glob": {given}, "all": {"1"}}); err != nil {
			return "", "", err
		}
	}
	if there := list.Refs[given]; there.Commit != "" {
		return there.Commit, given, nil
	}
	return "", "", wire.Errorf(wire.BadRequest, "%.300q is no ref that this token sees, and no commit, which has 64 hex digits", given)
}

// doMove moves a ref by a session that brings nothing, which fails if the ref is not any
// more what it was on the page. To a commit that does not descend from that one it moves
// if the token may do so.
func doMove(w http.ResponseWriter, r *request) {
	form := r.PostForm
	open := wire.OpenRequest{Promote: true, Refs: []wire.Ref{{Ref: form.Get("name"), Old: form.Get("old"), New: form.Get("new")}}}
	var s wire.Session
	who, err := r.who()
	if err == nil {
		open.Force = holder(who.Token).CheckMoves(moving(form.Get("name"), true)) == nil
		err = r.ask(http.MethodPost, "/api/v1/sessions", open, &s)
	}
	if err == nil {
		err = r.ask(http.MethodPost, "/api/v1/sessions/"+s.ID+"/finalize", nil, nil)
	}
	if err != nil {
		r.show(w, nil, err)
		return
	}
	redirect(w, r.root+"page/sessions/"+s.ID)
}

// tokensView lists the tokens that the one that was signed in with may know of.
func tokensView(r *request) (*view, error) {
	var list token.List
	if err := r.get(&list, "/api/v1/tokens", nil); err != nil {
		return nil, err
	}
	return &view{Title: "Tokens", Nav: "tokens", Every: refsEvery, Sections: []section{{"tokens", "tokens", list}}}, nil
}
