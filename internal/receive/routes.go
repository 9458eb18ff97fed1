// SPDX-License-Identifier: AGPL-3.0-or-later

package receive

import (
	"context"
	"errors"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/tus/tusd/v2/pkg/handler"

	"github.com/lirios/ostree-upload/internal/token"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/journal"
)

// uploadsPath is where tus lives; wire.Info names it.
const uploadsPath = "/files/"

// route is one row of the table of all that can be asked for.
type route struct {
	pattern string // as http.ServeMux takes it
	who     who
	handle  handlerFunc
}

// noRoute stands for the pattern where a path is not in the table.
const noRoute = "other"

// handlerFunc answers a request; what it returns is sent as a Problem.
type handlerFunc func(w http.ResponseWriter, r *request) error

// routes is the table. A path that is not in it is answered as one that does not
// exist, and only to who has a token.
func (s *Server) routes() []route {
	routes := []route{
		{"GET /healthz", anyone, s.healthz},
		{"GET /api/v1/info", holder, small(s.info)},
		{"GET /api/v1/tokens", holder, small(s.tokens)},
		{"GET /api/v1/status", watcher, small(s.serverStatus)},
		{"GET /api/v1/refs", holder, small(s.refs)},
		{"GET /api/v1/refs/{path...}", holder, small(s.refLog)},
		{"GET /api/v1/commitmeta/{commit}", holder, small(s.commitMeta)},
		{"POST /api/v1/objects", holder, small(s.lookup)},
		{"POST /api/v1/sessions", holder, small(s.openSession)},
		{"GET /api/v1/sessions", holder, small(s.listSessions)},
		{"GET /api/v1/sessions/{id}", reader, small(s.getSession)},
		{"DELETE /api/v1/sessions/{id}", viewer, small(s.abortSession)},
		{"POST /api/v1/sessions/{id}/objects", sender, small(s.negotiate)},
		{"POST /api/v1/sessions/{id}/salvage", sender, small(s.salvage)},
		{"POST /api/v1/sessions/{id}/owner", overseer, small(s.setOwner)},
		{"POST /api/v1/sessions/{id}/finalize", owner, small(s.finalize)},
		{"POST /api/v1/sessions/{id}/publish", reviewer, small(s.publishSession)},
		{"POST /api/v1/sessions/{id}/reject", reviewer, small(s.rejectSession)},
		{"GET /preview/{id}/{key}/{path...}", anyone, s.preview},
		{"OPTIONS /files/{$}", anyone, s.forwardToTus},
		{"OPTIONS /files/", holder, s.forwardToTus},
		{"POST /files/{$}", creator, streamed(s.createUpload)},
		{"HEAD /files/{id}/{name}", sender, s.upload},
		{"PATCH /files/{id}/{name}", sender, streamed(s.writeUpload)},
		{"DELETE /files/{id}/{name}", sender, streamed(s.writeUpload)},
	}
	if s.cfg.Metrics != nil {
		routes = append(routes, route{"GET /metrics", meter, small(s.metrics)})
	}
	return routes
}

// request is an HTTP request with what its route's who found out.
type request struct {
	*http.Request
	id      string       // wire.RequestHeader
	remote  string       // the address that it comes from
	token   *token.Token // who asks; nil for anyone
	began   time.Time
	session *journal.Session // what it is about; nil unless who looks for one
	work    *work            // nil for anyone
}

// who decides whether a token may make a request, and finds the session that it
// is about. A session that the token may not see is one that there is not.
type who func(s *Server, r *request) error

// anyone needs no token.
var anyone who

// holder is whoever has a token that is valid.
func holder(*Server, *request) error { return nil }

// viewer may see the session, and abort it.
func viewer(s *Server, r *request) error { return s.find(r, r.PathValue("id")) }

// reader may see the session: as viewer, or since it may have it published.
func reader(s *Server, r *request) error {
	err := s.find(r, r.PathValue("id"))
	if err == nil {
		return nil
	}
	if mine, failed := s.reviews(r.token, r.PathValue("id")); failed == nil && mine != nil {
		r.session = mine
		return nil
	}
	return err
}

// reviewer may publish and reject the session.
func reviewer(s *Server, r *request) error {
	if err := reader(s, r); err != nil {
		return err
	}
	whole, err := s.cfg.Journal.Session(r.session.ID)
	if err != nil {
		return err
	}
	return r.token.CheckPublish(whole.RefNames())
}

// meter may read the metrics.
func meter(_ *Server, r *request) error {
	if r.token.May(token.Metrics) {
		return nil
	}
	return wire.Errorf(wire.Forbidden, "token %s may not read the metrics", r.token.Name).
		WithHint("use one that may: ostree-upload gentoken --name prometheus --scope metrics")
}

// owner holds a token of the name that opened the session, and may do what that is for.
func owner(s *Server, r *request) error { return s.findOwn(r, r.PathValue("id")) }

// sender is an owner that may push, and the session takes objects.
func sender(s *Server, r *request) error { return s.findSending(r, r.PathValue("id")) }

// creator is the sender of the session that the new upload names.
func creator(s *Server, r *request) error {
	meta := handler.ParseMetadataHeader(r.Header.Get("Upload-Metadata"))
	if err := checkMetadata(meta); err != nil {
		return err
	}
	return s.findSending(r, meta["session"])
}

func (s *Server) find(r *request, id string) error {
	session, err := s.cfg.Journal.Head(id)
	if err == nil && !r.token.Sees(session.Token) {
		err = s.mayInherit(r.token, &session)
	}
	if errors.Is(err, errNotInherited) {
		err = journal.ErrNotFound
	}
	if errors.Is(err, journal.ErrNotFound) {
		return wire.Errorf(wire.NotFound, "there is no session %.64q of this token", id).
			WithHint("ostree-upload sessions lists those there are")
	}
	r.session = &session
	return err
}

func (s *Server) findOwn(r *request, id string) error {
	if err := s.find(r, id); err != nil {
		return err
	}
	if r.token.Owns(r.session.Token) {
		return s.allowed.check(s, r)
	}
	err := s.mayInherit(r.token, r.session)
	if errors.Is(err, errNotInherited) {
		return wire.Errorf(wire.Forbidden, "session %s belongs to token %s", id, r.session.Token)
	}
	if err != nil {
		return err
	}
	return s.inherit(r)
}

func (s *Server) findSending(r *request, id string) error {
	if err := s.findOwn(r, id); err != nil {
		return err
	}
	if r.session.Promote {
		return wire.Errorf(wire.Policy, "session %s takes no objects: it moves refs among commits that are in the repository", id).
			WithHint("finalize it; to bring a commit, open a session without promote")
	}
	return r.token.CheckSend()
}

// Handler routes requests.
func (s *Server) Handler() http.Handler { return s.handler(s.routes(), nothing) }

// handler routes requests by a table; missing answers those for which it has no path.
func (s *Server) handler(routes []route, missing handlerFunc) http.Handler {
	mux := http.NewServeMux()
	for _, r := range routes {
		mux.Handle(r.pattern, s.answer(r))
	}
	other := s.answer(route{noRoute, holder, notRouted(mux, missing)})
	mux.Handle("/files", other) // else a redirect
	mux.Handle("/", other)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r = overridden(below(s.cfg.Settings().BasePath, r))
		// ServeMux answers a path with .. or // by a redirect.
		if clean := path.Clean(r.URL.Path); r.URL.Path != clean && (clean == "/" || r.URL.Path != clean+"/") {
			s.answer(route{noRoute, holder, missing}).ServeHTTP(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// answer makes a handler of a route: a request without a token learns nothing,
// not even which paths there are.
func (s *Server) answer(route route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := &timedWriter{ResponseWriter: w}
		w = answer
		ctx, end := context.WithCancelCause(r.Context())
		defer end(nil)
		q := &request{Request: r.WithContext(ctx), id: requestID(r), remote: s.remote(r), began: time.Now()}
		w.Header().Set(wire.RequestHeader, q.id)
		counted := s.cfg.Count(route.pattern)
		panics := true
		defer func() { s.answered(q, route, answer.outcome(panics), counted) }()
		leave, err := s.enter(w, q)
		defer leave()
		if err == nil {
			err = s.admit(w, q, route.who)
		}
		if answer.work = q.work; q.work != nil {
			defer q.work.end()
		}
		if q.token == nil {
			leaveBody(w, q)
		} else if err == nil {
			known(r)
			defer s.watch(q, route.who, end)()
		}
		if err == nil {
			err = route.handle(w, q)
		}
		if revoked := new(revokedError); errors.As(context.Cause(ctx), &revoked) {
			err = revoked.problem
		}
		if err != nil {
			s.fail(w, q, err)
		}
		panics = false
	})
}

// admit finds out who asks, and whether they may.
func (s *Server) admit(w http.ResponseWriter, r *request, may who) (err error) {
	if may == nil {
		return nil
	}
	unknown, err := s.begin(w, r)
	if err != nil {
		return err
	}
	if unknown != nil {
		return refuse(w, unknown)
	}
	s.cfg.Used(r.token.Name)
	return may(s, r)
}

// methods are those that a path may be asked with.
var methods = []string{"GET", "HEAD", "POST", "PATCH", "DELETE"}

// notRouted tells a wrong method from a wrong path.
func notRouted(mux *http.ServeMux, missing handlerFunc) handlerFunc {
	return func(w http.ResponseWriter, r *request) error {
		takes := func(method string) bool {
			other := r.Clone(r.Context())
			other.Method = method
			_, pattern := mux.Handler(other)
			return strings.Contains(pattern, " ") // the others have no method
		}
		allowed := slices.DeleteFunc(slices.Clone(methods), func(m string) bool { return !takes(m) })
		if len(allowed) == 0 { // OPTIONS alone makes no path: it is answered anywhere below /files/
			return missing(w, r)
		}
		if takes("OPTIONS") {
			allowed = append(allowed, "OPTIONS")
		}
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		p := wire.Errorf(wire.BadRequest, "%s cannot be asked for with %s", asked(r.Request, r.URL.Path), r.Method)
		p.Status = http.StatusMethodNotAllowed
		return p
	}
}

func nothing(_ http.ResponseWriter, r *request) error {
	return wire.Errorf(wire.NotFound, "there is nothing at %s", asked(r.Request, r.URL.Path)).
		WithHint("see that the address is right: the paths of this server begin with /api/ and /files/, and a proxy takes away what it adds, or base-path in the server's configuration does")
}
