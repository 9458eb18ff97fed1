// SPDX-License-Identifier: AGPL-3.0-or-later

package console

import (
	"bytes"
	"embed"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/lirios/ostree-upload/internal/forwarded"
	"github.com/lirios/ostree-upload/internal/token"
	"github.com/lirios/ostree-upload/internal/wire"
)

//go:embed web
var web embed.FS

// maxForm bounds the body of a form: a token, or a reason and some names.
const maxForm = 64 << 10

// routes are all paths of the page.
func (c *Console) routes() *http.ServeMux {
	mux := http.NewServeMux()
	for name, kind := range map[string]string{"style.css": "text/css; charset=utf-8", "page.js": "text/javascript; charset=utf-8"} {
		mux.Handle("GET /page/"+name, file(name, kind))
	}
	mux.Handle("GET /{$}", shown(home))
	mux.Handle("GET /page/sessions", shown(sessionsView))
	mux.Handle("GET /page/sessions/{id}", shown(sessionView))
	mux.Handle("GET /page/sessions/{id}/{act}", shown(confirmAct))
	mux.Handle("POST /page/sessions/{id}/{act}", sameOrigin(held(doAct)))
	mux.Handle("GET /page/refs", shown(refsView))
	mux.Handle("GET /page/ref", shown(refView))
	mux.Handle("GET /page/move", shown(confirmMove))
	mux.Handle("POST /page/move", sameOrigin(held(doMove)))
	mux.Handle("GET /page/tokens", shown(tokensView))
	mux.Handle("POST /page/sign-in", sameOrigin(signInWith))
	mux.Handle("POST /page/sign-out", sameOrigin(signOut))
	mux.Handle("/", shown(func(r *request) (*view, error) {
		return nil, wire.Errorf(wire.NotFound, "there is no such page").WithHint("the first page leads to all others")
	}))
	return mux
}

// file is one of this package, for everybody.
func file(name, kind string) http.Handler {
	content, err := web.ReadFile("web/" + name)
	if err != nil {
		panic(err) // it was embedded
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", kind)
		w.Header().Set("Cache-Control", "no-cache")
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
	})
}

// shown is a page for who has signed in; the others get the page for that.
func shown(make func(*request) (*view, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, hr *http.Request) {
		r := of(hr)
		if r.signIn == nil {
			r.showSignIn(w, http.StatusUnauthorized, "")
			return
		}
		switch r.URL.Query().Get("as") {
		case "events":
			r.stream(w, make)
		case "sections":
			r.sections(w, make)
		default:
			v, err := make(r)
			r.show(w, v, err)
		}
	})
}

// show answers with a page, or with what kept it from being made.
func (r *request) show(w http.ResponseWriter, v *view, err error) {
	if refused(err, http.StatusUnauthorized) {
		r.signedOut(w, err)
		return
	}
	status := http.StatusOK
	if err != nil {
		v, status = failed(err)
	}
	r.write(w, status, "layout", r.page(v))
}

// signedOut ends the sign-in of a token that is not good any more.
func (r *request) signedOut(w http.ResponseWriter, err error) {
	r.console.signIns.end(w, r.Request)
	r.showSignIn(w, http.StatusUnauthorized, "You are signed out: "+err.Error()+".")
}

// sameOrigin is for what changes something: it is refused if another site sent the
// browser here. The cookie does not come along then either.
func sameOrigin(do func(w http.ResponseWriter, r *request)) http.Handler {
	guard := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, hr *http.Request) {
		r := of(hr)
		if err := guard.Check(hr); err != nil {
			r.console.cfg.Log.Warn("a form of another site was refused", "origin", hr.Header.Get("Origin"), "remote", r.remote(), "path", hr.URL.Path)
			r.showSignIn(w, http.StatusForbidden, "This form came from another site and was refused: "+err.Error()+". Behind a proxy, have that pass on the header Host.")
			return
		}
		hr.Body = http.MaxBytesReader(w, hr.Body, maxForm)
		if err := hr.ParseForm(); err != nil {
			status := http.StatusBadRequest
			if errors.As(err, new(*http.MaxBytesError)) {
				status = http.StatusRequestEntityTooLarge
			}
			r.showSignIn(w, status, "The form cannot be read: "+err.Error()+".")
			return
		}
		do(w, r)
	})
}

// held is for who has signed in.
func held(do func(w http.ResponseWriter, r *request)) func(w http.ResponseWriter, r *request) {
	return func(w http.ResponseWriter, r *request) {
		if r.signIn == nil {
			r.showSignIn(w, http.StatusUnauthorized, "You are signed out: sign in, then do it again.")
			return
		}
		do(w, r)
	}
}

func (r *request) remote() string {
	return r.console.cfg.Settings().TrustedProxies.Client(forwarded.Peer(r.RemoteAddr), r.Header)
}

// signInWith is the form with the token, which is judged as one of the API's clients is.
func signInWith(w http.ResponseWriter, r *request) {
	secret := strings.TrimSpace(r.PostForm.Get("token"))
	if secret == "" {
		r.showSignIn(w, http.StatusUnauthorized, "Give a token.")
		return
	}
	r.hash = token.Hash(secret)
	_, err := r.who()
	var p *wire.Problem
	if errors.As(err, &p) {
		if p.Status == http.StatusUnauthorized && strings.Count(secret, ".") == 2 {
			p = p.WithHint("the ID token of a CI job is good for its pushes only: sign in with a token of the server's configuration")
		}
		r.showSignIn(w, p.Status, p.Detail+": "+p.HintIs+".")
		return
	}
	if err != nil {
		r.showSignIn(w, http.StatusInternalServerError, err.Error()+".")
		return
	}
	r.console.signIns.add(w, r.Request, r.hash, r.secure())
	redirect(w, r.root+".")
}

// secure tells whether the browser came by HTTPS, be it to a trusted proxy.
func (r *request) secure() bool {
	if r.TLS != nil {
		return true
	}
	proxies := r.console.cfg.Settings().TrustedProxies
	return proxies.Trusts(forwarded.Peer(r.RemoteAddr)) && strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https")
}

func signOut(w http.ResponseWriter, r *request) {
	r.console.signIns.end(w, r.Request)
	redirect(w, r.root+".")
}

// showSignIn is all that somebody sees who has not signed in.
func (r *request) showSignIn(w http.ResponseWriter, status int, said string) {
	if as := r.URL.Query().Get("as"); as != "" {
		w.WriteHeader(status) // the script loads the page again
		return
	}
	r.write(w, status, "sign-in", struct{ Root, Said string }{r.root, said})
}

func (r *request) write(w http.ResponseWriter, status int, name string, data any) {
	var text bytes.Buffer
	if err := templates.ExecuteTemplate(&text, name, data); err != nil {
		r.console.cfg.Log.Error("a page cannot be made", "page", name, "err", err)
		http.Error(w, "this page cannot be made; the server's log says why", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.Copy(w, &text) // a browser that is gone cannot be told
}
