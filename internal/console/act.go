// SPDX-License-Identifier: AGPL-3.0-or-later

package console

import (
	"net/http"
	"net/url"
	"slices"

	"github.com/lirios/ostree-upload/internal/wire"
)

// confirmation is the page before something is done: what, with which session and refs.
type confirmation struct {
	Act     act
	Session *sessionPage // nil if it is about a ref
	Move    *refMove     // nil if it is about a session
	Back    string       // the page that leads here
}

// confirmAct asks whether something is to be done with a session.
func confirmAct(r *request) (*view, error) {
	s, err := r.readSession(false)
	if err != nil {
		return nil, err
	}
	a, err := chosen(r.PathValue("act"), s)
	if err != nil {
		return nil, err
	}
	c := confirmation{Act: a, Session: s, Back: "page/sessions/" + s.ID}
	return &view{Title: a.Label + " session " + s.ID + "?", Nav: "sessions", Sections: []section{{"confirm", "confirm", c}}}, nil
}

// chosen is the act of a name that the token may do now. The API has the last word.
func chosen(name string, s *sessionPage) (act, error) {
	at := slices.IndexFunc(acts, func(a act) bool { return a.Name == name })
	if at < 0 {
		return act{}, wire.Errorf(wire.NotFound, "there is nothing called %.64q that can be done with a session", name)
	}
	if !slices.Contains(s.May, acts[at]) {
		return act{}, wire.Errorf(wire.Forbidden, "session %s is %s, and this token may not do that with it: %s", s.ID, s.State, acts[at].Label).
			WithHint("see how the session stands now, or sign in with a token that may")
	}
	return acts[at], nil
}

// doAct does it, by the same request that a client would send.
func doAct(w http.ResponseWriter, r *request) {
	id := r.PathValue("id")
	path := "/api/v1/sessions/" + url.PathEscape(id)
	field := r.PostForm.Get("field")
	var err error
	switch r.PathValue("act") {
	case "abort":
		err = r.ask(http.MethodDelete, path, nil, nil)
	case "publish":
		err = r.ask(http.MethodPost, path+"/publish", nil, nil)
	case "reject":
		err = r.ask(http.MethodPost, path+"/reject", wire.Rejection{Reason: field}, nil)
	case "owner":
		err = r.ask(http.MethodPost, path+"/owner", wire.OwnerRequest{Token: field}, nil)
	default:
		err = wire.Errorf(wire.NotFound, "there is nothing called %.64q that can be done with a session", r.PathValue("act"))
	}
	if err != nil {
		r.show(w, nil, err)
		return
	}
	redirect(w, r.root+"page/sessions/"+url.PathEscape(id))
}
