// SPDX-License-Identifier: AGPL-3.0-or-later

package receive

import (
	"encoding/json"
	"errors"
	"io"
	"iter"
	"net/http"
	"slices"
	"time"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/token"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/journal"
)

// openSession is POST /api/v1/sessions.
func (s *Server) openSession(w http.ResponseWriter, r *request) error {
	var req wire.OpenRequest
	if err := decode(r, &req); err != nil {
		return err
	}
	t := r.token
	if err := s.checkOpen(t, &req); err != nil {
		return err
	}
	ttl := time.Duration(s.cfg.Settings().SessionTTL)
	session, err := s.cfg.Journal.Create(journal.Session{Refs: req.Refs, Token: t.Name, Force: req.Force}, ttl)
	if err != nil {
		return err
	}
	s.cfg.Log.Info("session opened", "session", session.ID, "token", t.Name, "refs", len(req.Refs))
	w.Header().Set("Location", "/api/v1/sessions/"+session.ID)
	return writeJSON(w, http.StatusCreated, s.document(&session, true))
}

func decode(r *request, v any) error {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	err := d.Decode(v)
	if err == nil {
		if _, err = d.Token(); errors.Is(err, io.EOF) {
			return nil
		}
		err = errors.New("something follows the document")
	}
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return err
	}
	return wire.Errorf(wire.BadRequest, "the request's document cannot be read: %v", err)
}

// checkOpen refuses a session that could never be published, and one that the
// token may not open.
func (s *Server) checkOpen(t *token.Token, req *wire.OpenRequest) error {
	if len(req.Refs) == 0 {
		return wire.Errorf(wire.BadRequest, "a session needs at least one ref")
	}
	for i, ref := range req.Refs {
		if err := checkRef(ref); err != nil {
			return err
		}
		if slices.ContainsFunc(req.Refs[:i], func(o wire.Ref) bool { return o.Ref == ref.Ref }) {
			return wire.Errorf(wire.BadRequest, "ref %s is given twice", ref.Ref)
		}
	}
	if err := t.CheckPush(req.Force, names(req.Refs)); err != nil {
		return err
	}
	return s.checkConflicts(req.Refs)
}

// names goes through the names of refs.
func names(refs []wire.Ref) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, r := range refs {
			if !yield(r.Ref) {
				return
			}
		}
	}
}

func checkRef(ref wire.Ref) error {
	if err := ostree.ValidateRef(ref.Ref); err != nil {
		return wire.Errorf(wire.BadRequest, "%v", err)
	}
	if _, err := ostree.ParseChecksum(ref.New); err != nil {
		return wire.Errorf(wire.BadRequest, "ref %s, new: %v", ref.Ref, err)
	}
	if _, err := ostree.ParseChecksum(ref.Old); err != nil && ref.Old != "" {
		return wire.Errorf(wire.BadRequest, "ref %s, old: %v", ref.Ref, err)
	}
	return nil
}

func (s *Server) checkConflicts(refs []wire.Ref) error {
	existing, err := s.currentRefs()
	if err != nil {
		return err
	}
	for _, ref := range refs {
		existing[ref.Ref] = ostree.Checksum{}
	}
	names := make([]string, 0, len(existing))
	for name := range existing {
		names = append(names, name)
	}
	if a, b, found := ostree.ConflictingRef(names); found {
		return wire.Errorf(wire.RefConflict, "ref %s cannot be beside ref %s: one is a folder of the other", a, b)
	}
	return nil
}

// listSessions is GET /api/v1/sessions.
func (s *Server) listSessions(w http.ResponseWriter, r *request) error {
	state := r.URL.Query().Get("state")
	if state != "" && !slices.Contains(wire.States, state) {
		return wire.Errorf(wire.BadRequest, "there is no session state %.64q", state)
	}
	mine := r.URL.Query().Get("mine") != ""
	sessions, err := s.cfg.Journal.Sessions(func(x *journal.Session) bool {
		seen := x.Token == r.token.Name || !mine && r.token.Sees(x.Token) || s.inherits(r.token, x)
		return seen && (state == "" || string(x.State) == state)
	})
	if err != nil {
		return err
	}
	list := wire.SessionList{Sessions: make([]wire.Session, len(sessions))}
	for i := range sessions {
		if err := s.withProblems(&sessions[i]); err != nil {
			return err
		}
		list.Sessions[i] = s.document(&sessions[i], false)
	}
	return writeJSON(w, http.StatusOK, list)
}

// withProblems fills in what the journal leaves out of a list.
func (s *Server) withProblems(session *journal.Session) error {
	if session.Error == "" && session.Counts.Rejected == 0 {
		return nil
	}
	whole, err := s.cfg.Journal.Session(session.ID)
	if errors.Is(err, journal.ErrNotFound) {
		return nil // forgotten just now
	}
	session.Problems = whole.Problems
	return err
}

// getSession is GET /api/v1/sessions/{id}, with ?wait= until its next change
// of state.
func (s *Server) getSession(w http.ResponseWriter, r *request) error {
	session := *r.session
	if wait := r.URL.Query().Get("wait"); wait != "" {
		d, err := time.ParseDuration(wait)
		if err != nil || d < 0 {
			return wire.Errorf(wire.BadRequest, "wait=%.64s is no duration such as 30s", wait)
		}
		if session, err = s.waitChange(r, session, min(d, wire.MaxWait)); err != nil {
			return err
		}
	}
	return writeJSON(w, http.StatusOK, s.document(&session, true))
}

// waitChange waits for a session to change its state. One that has its outcome
// is answered at once: a client that asks late must not wait for what has
// already happened.
func (s *Server) waitChange(r *request, session journal.Session, d time.Duration) (journal.Session, error) {
	changed := s.cfg.Journal.Changed(session.ID)
	now, err := s.cfg.Journal.Session(session.ID)
	if err != nil || now.State != session.State || now.State.Final() || now.Error != "" || now.Detail != "" {
		return now, err
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-changed:
	case <-timer.C:
	case <-r.Context().Done():
	}
	return s.cfg.Journal.Session(session.ID)
}

// abortSession is DELETE /api/v1/sessions/{id}.
func (s *Server) abortSession(w http.ResponseWriter, r *request) error {
	session, err := s.cfg.Publisher.Abort(r.session.ID)
	if err != nil {
		return err
	}
	s.cfg.Log.Info("session aborted", "session", session.ID, "token", r.token.Name)
	return writeJSON(w, http.StatusOK, s.document(&session, true))
}

// finalize is POST /api/v1/sessions/{id}/finalize. It only starts; the outcome
// is in the session.
func (s *Server) finalize(w http.ResponseWriter, r *request) (err error) {
	session := *r.session
	switch session.State {
	case journal.Aborted, journal.Expired:
		return closed(&session)
	case journal.Open:
		// The token may have lost rights since the session was opened.
		if err := r.token.CheckPush(session.Force, names(session.Refs)); err != nil {
			return err
		}
		session, err = s.cfg.Journal.Move(session.ID, journal.Verifying, func(s *journal.Session) { s.Error, s.Detail = "", "" })
		if err != nil {
			return err
		}
		s.cfg.Publisher.Enqueue()
	}
	return writeJSON(w, http.StatusAccepted, s.document(&session, true))
}

func closed(session *journal.Session) error {
	return closedProblem(&journal.StateError{ID: session.ID, From: session.State})
}

// document is a session as the API shows it.
func (s *Server) document(j *journal.Session, withUploads bool) wire.Session {
	d := wire.Session{
		ID: j.ID, State: string(j.State), Force: j.Force, Token: j.Token, Refs: j.Refs,
		Created: j.Created.Truncate(time.Second), Updated: j.Updated.Truncate(time.Second), Expires: j.Expires.Truncate(time.Second),
		Objects: wire.Objects{
			Known: j.Counts.Known, Missing: j.Counts.Missing(),
			Staged: j.Counts.Staged, Rejected: j.Counts.Rejected,
		},
		Bytes:    wire.Bytes{Received: j.Counts.Received, Staged: j.Counts.StagedBytes},
		Problems: j.Problems, Error: j.Error, Detail: j.Detail,
	}
	if d.Problems == nil {
		d.Problems = []wire.ObjectProblem{} // [] and not null
	}
	uploads := s.cfg.Store.Uploads(j.ID)
	for _, u := range uploads {
		d.Bytes.Received += u.Offset
	}
	if withUploads {
		d.Uploads = uploads
	}
	return d
}
