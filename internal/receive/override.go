// SPDX-License-Identifier: AGPL-3.0-or-later

package receive

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/lirios/ostree-upload/internal/wire"
)

// overridden is r with the method that it stands for. Routing, every check and the log
// see that method alone, and tusd does not see the header, which it would follow after
// all checks.
func overridden(r *http.Request) *http.Request {
	method := r.Header.Get(wire.OverrideHeader)
	r.Header.Del(wire.OverrideHeader)
	if r.Method != http.MethodPost {
		return r
	}
	switch method {
	case http.MethodPatch, http.MethodDelete, http.MethodHead:
		other := r.WithContext(r.Context()) // net/http needs the method that came to frame the answer
		other.Method = method
		return other
	}
	return r
}

// below is r without the path that a proxy put before it and did not take away. What
// comes past the proxy does not have it.
func below(base string, r *http.Request) *http.Request {
	rest, has := strings.CutPrefix(r.URL.Path, base+"/")
	if base == "" || !has {
		return r
	}
	return withPath(r, "/"+rest)
}

// asked is a path of ours as whoever sent r has it: below what was taken away from theirs,
// such as the name of a repository.
func asked(r *http.Request, path string) string {
	u, err := url.ParseRequestURI(r.RequestURI)
	if err != nil {
		return path // a request from within the process
	}
	before, is := strings.CutSuffix(strings.TrimSuffix(u.Path, "/"), strings.TrimSuffix(r.URL.Path, "/"))
	if !is {
		return path
	}
	return before + path
}

// withPath is r for another path.
func withPath(r *http.Request, path string) *http.Request {
	other, at := r.WithContext(r.Context()), *r.URL
	at.Path, at.RawPath = path, "" // no path of ours has an escaped slash
	other.URL = &at
	return other
}
