// SPDX-License-Identifier: AGPL-3.0-or-later

// Package console is the operator's page: the server's sessions, refs and tokens in a
// browser, and what the token of who signed in may do with them.
//
//   - It knows nothing of its own: each page asks the API of this process, with the
//     rights of the token, at the moment of the request. What the API refuses, the page
//     refuses with the same words.
//   - A sign-in stands for the hash of a token. The token is judged at each request, and
//     twice a second while one is under way, by what judges clients of the API.
//   - Nothing that users control gets into a page but as text (html/template), and the
//     browser is told to run and load nothing but the files of this package.
//   - All paths in pages are relative, so that a proxy may put anything before them.
//
// A Console may be used concurrently.
package console

import (
	"log/slog"
	"net/http"
	"strings"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/receive"
)

// Config is what a Console stands on.
type Config struct {
	API      http.Handler          // answers as it answers any client
	Settings func() *config.Config // of the whole process
	Keep     string                // a file that keeps sign-ins over a restart; "": none does
	Log      *slog.Logger
}

// Console answers for the page.
type Console struct {
	cfg     Config
	signIns *signIns
	streams *streams
	rates   *rates
	pages   http.Handler
}

// New makes a Console. What it keeps in Keep is read again.
func New(cfg Config) *Console {
	c := &Console{cfg: cfg, signIns: openSignIns(cfg.Keep, cfg.Log), streams: newStreams(), rates: newRates()}
	c.pages = receive.Timed(c.routes())
	return c
}

// Beside answers for the page while it is at the main address, and else leaves requests
// to the API.
func (c *Console) Beside(api http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		settings := c.cfg.Settings()
		repository, path, is := c.split(settings, r.URL.Path)
		if !settings.Page || settings.PageAddress != "" || !is {
			api.ServeHTTP(w, r)
			return
		}
		c.serve(w, r, repository, path)
	})
}

// Alone answers where there is nothing but the page.
func (c *Console) Alone() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		repository, path, is := c.split(c.cfg.Settings(), r.URL.Path)
		if !is {
			path = "/page/nothing"
		}
		c.serve(w, r, repository, path)
	})
}

// split tells which repository a path is about, "" for the only one or for none of them,
// and the path below the repository's own; it is not ok unless it is one of the page.
func (c *Console) split(settings *config.Config, path string) (repository, below string, ok bool) {
	if path == settings.BasePath {
		return "", "", path != ""
	}
	if rest, has := strings.CutPrefix(path, settings.BasePath+"/"); has {
		path = "/" + rest
	}
	if isOurs(path) {
		return "", path, true
	}
	name, rest, more := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	if settings.CheckRepository(name) != nil {
		return "", path, false
	}
	if !more {
		return name, "", true
	}
	return name, "/" + rest, isOurs("/" + rest)
}

func isOurs(path string) bool { return path == "/" || strings.HasPrefix(path, "/page/") }

// on tells whether the page is to be had anywhere.
func (c *Console) on() bool {
	settings := c.cfg.Settings()
	return settings.Page || settings.PageAddress != ""
}

// serve answers a request for a path of the page.
func (c *Console) serve(w http.ResponseWriter, r *http.Request, repository, path string) {
	guard(w.Header())
	if path == "" { // links of the page begin behind the slash
		redirect(w, r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]+"/")
		return
	}
	q := &request{
		Request: r.Clone(r.Context()), console: c, repository: repository,
		root: strings.Repeat("../", strings.Count(path, "/")-1),
	}
	q.URL.Path, q.URL.RawPath = path, ""
	if q.signIn = c.signIns.find(r); q.signIn != nil {
		q.hash = q.signIn.Hash
	}
	c.pages.ServeHTTP(w, q.Request.WithContext(with(r.Context(), q)))
}

// guard tells the browser to run, load and send nothing but to this server, and to show
// the page in no frame.
func guard(h http.Header) {
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
}

// redirect sends the browser to a path that is relative to that of the request.
func redirect(w http.ResponseWriter, to string) {
	w.Header().Set("Location", to)
	w.WriteHeader(http.StatusSeeOther)
}
