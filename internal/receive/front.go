// SPDX-License-Identifier: AGPL-3.0-or-later

package receive

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lirios/ostree-upload/internal/wire"
)

// FrontConfig is what a Front stands on.
type FrontConfig struct {
	Config // Settings, Shared, Used, Log, Metrics and Count
	// Repository answers for the repository of a name, below its path; nil: there is none.
	Repository func(name string) http.Handler
	// States are those of the repositories, by name: wire.RepositoryOK or another.
	States func() map[string]string
}

// Front answers for several repositories of a process: each one's routes are below its
// name, and its own are about all of them.
type Front struct {
	*Server
	cfg FrontConfig
	own http.Handler
}

// NewFront makes a Front.
func NewFront(cfg FrontConfig) *Front {
	f := &Front{Server: plain(cfg.Config), cfg: cfg}
	routes := []route{
		{"GET /healthz", anyone, f.healthz},
		{"GET /api/v1/repositories", holder, small(f.repositories)},
	}
	if cfg.Metrics != nil {
		routes = append(routes, route{"GET /metrics", meterOfAll, small(f.metrics)})
	}
	f.own = f.handler(routes, f.missing)
	return f
}

// ServeHTTP hands a request on by the first part of its path.
func (f *Front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	at := below(f.cfg.Settings().BasePath, r)
	name, _, more := strings.Cut(strings.TrimPrefix(at.URL.Path, "/"), "/")
	h := f.cfg.Repository(name)
	switch {
	case h == nil:
		f.own.ServeHTTP(w, r)
	case more:
		h.ServeHTTP(w, below("/"+name, at))
	default:
		h.ServeHTTP(w, withPath(at, "/"))
	}
}

// meterOfAll may read the metrics of all repositories.
func meterOfAll(s *Server, r *request) error {
	if r.token.Repositories != nil {
		return wire.Errorf(wire.Forbidden, "token %s may not read the metrics of all repositories", r.token.Name).
			WithHint("those of one are at /NAME/metrics")
	}
	return meter(s, r)
}

// missing tells whoever left the name of a repository out which there are.
func (f *Front) missing(_ http.ResponseWriter, r *request) error {
	names := slices.DeleteFunc(slices.Sorted(maps.Keys(f.cfg.States())), func(name string) bool { return !r.token.MayUse(name) })
	p := wire.Errorf(wire.NotFound, "there is nothing at %s: this server has several repositories, each below its name", asked(r.Request, r.URL.Path))
	if len(names) == 0 {
		return p.WithHint("token %s may be used for none of them: use another", r.token.Name)
	}
	return p.WithHint("put the name at the end of the address, as in https://HOST/%s; token %s may be used for %s", names[0], r.token.Name, strings.Join(names, ", "))
}

// healthz is 200 while one of the repositories can be used, and has the state of each:
// whoever takes a server away that is not healthy would take the others away, too.
func (f *Front) healthz(w http.ResponseWriter, r *request) error {
	states := f.cfg.States()
	var down []string
	for _, name := range slices.Sorted(maps.Keys(states)) {
		if states[name] != wire.RepositoryOK {
			down = append(down, name)
		}
	}
	if len(down) < len(states) {
		return writeJSON(w, http.StatusOK, wire.Health{Repositories: states})
	}
	p := cannotBeUsed(down...)
	p.Request = r.id
	w.Header().Set("Content-Type", wire.ProblemType)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(p.Status)
	if r.Method != http.MethodHead {
		_ = json.NewEncoder(w).Encode(wire.Health{Problem: p, Repositories: states}) // a client that is gone cannot be told
	}
	return nil
}

func cannotBeUsed(names ...string) *wire.Problem {
	what := "repository"
	if len(names) > 1 {
		what = "repositories"
	}
	return wire.Errorf(wire.Unavailable, "%s %s cannot be used now", what, strings.Join(names, ", ")).WithHint("the server's log says why; it is tried again")
}

// DownHandler answers for a repository that cannot be used now, to be tried again after a
// while.
func DownHandler(cfg Config, again time.Duration) http.Handler {
	s := plain(cfg)
	down := func(w http.ResponseWriter, r *request) error {
		w.Header().Set("Retry-After", strconv.Itoa(int(again/time.Second)))
		return cannotBeUsed(cfg.Settings().Name)
	}
	return s.handler([]route{{"GET /healthz", anyone, down}}, streamed(down))
}
