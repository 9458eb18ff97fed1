// SPDX-License-Identifier: AGPL-3.0-or-later

package receive

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"time"

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
	s.opening.Lock() // no other may open between the look and the opening
	defer s.opening.Unlock()
	if err := s.checkShare(t, len(req.Refs)); err != nil {
		return err
	}
	if req.DryRun {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	ttl := time.Duration(s.cfg.Settings().SessionTTL)
	session, err := s.cfg.Journal.Create(journal.Session{Refs: req.Refs, Token: t.Name, Remote: r.remote, Request: r.id, Subject: t.Subject, Force: req.Force, Promote: req.Promote, Repair: req.Repair, Hold: req.Hold}, ttl)
	if err != nil {
		return err
	}
	r.session = &session
	s.event(r, "session opened", "ref", session.RefList(), "force", req.Force, "promote", req.Promote, "repair", req.Repair)
	w.Header().Set("Location", "sessions/"+session.ID) // relative, as that of an upload
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

// fullSessions is how many sessions with all the refs that one may have a token may
// have open: the journal keeps each ref.
const fullSessions = 5

// checkShare refuses a session that would be more than a token may have open, and
// any while the disk is nearly full.
func (s *Server) checkShare(t *token.Token, refs int) error {
	limits := s.cfg.Settings().Limits
	share, err := s.cfg.Journal.ShareOf(t.Name)
	if err != nil {
		return err
	}
	if most := limits.MaxSessions; most > 0 && share.Sessions >= most {
		return wire.Errorf(wire.Quota, "token %s has %d sessions open, and may have %d (max-sessions)", t.Name, share.Sessions, most).
			WithHint("abort those that nobody will finish: ostree-upload sessions --status open")
	}
	if most := fullSessions * limits.MaxRefs; most > 0 && share.Refs+refs > most {
		return wire.Errorf(wire.Quota, "the open sessions of token %s have %d refs, with these they would have %d, and may have %d (%d times max-refs)", t.Name, share.Refs, share.Refs+refs, most, fullSessions).
			WithHint("wait until some are published, or abort those that nobody will finish: ostree-upload sessions --status open")
	}
	return s.checkAnyRoom(t)
}

// FewProblems is how many problems of a session a list shows.
const FewProblems = 10

// listSessions is GET /api/v1/sessions, a page of it.
func (s *Server) listSessions(w http.ResponseWriter, r *request) error {
	q, err := s.query(r)
	if err != nil {
		return err
	}
	list, err := s.page(r.token, q)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, list)
}

func (s *Server) page(t *token.Token, q journal.Query) (wire.SessionList, error) {
	page, next, err := s.cfg.Journal.List(q)
	if err == nil && q.Token == "" && !t.May(token.Sessions) {
		page, err = s.reviewed(t, page)
	}
	if err == nil && q.Moves != "" && q.Before == "" {
		page, err = s.withInherited(t, q, page)
	}
	list := wire.SessionList{Sessions: make([]wire.Session, len(page)), Next: next}
	for i := 0; i < len(page) && err == nil; i++ {
		err = s.withProblems(&page[i])
		list.Sessions[i] = s.document(&page[i], false)
	}
	return list, err
}

// query reads what is asked for of the list.
func (s *Server) query(r *request) (journal.Query, error) {
	asked := r.URL.Query()
	q := journal.Query{State: journal.State(asked.Get("state")), Moves: asked.Get("moves"), Live: asked.Get("live") != "", Before: asked.Get("before"), Limit: wire.PageSize}
	if q.State != "" && !slices.Contains(wire.States, string(q.State)) {
		return q, wire.Errorf(wire.BadRequest, "there is no session state %.64q", q.State)
	}
	if limit := asked.Get("limit"); limit != "" {
		var err error
		if q.Limit, err = readLimit(limit); err != nil {
			return q, err
		}
	}
	if asked.Get("mine") != "" || !r.token.May(token.Sessions) && !s.seesHeld(r.token, q) {
		q.Token = r.token.Name
	}
	if q.Before == "" {
		return q, nil
	}
	return q, s.findBefore(r, q) // which may be seen
}

// withProblems fills in what the journal leaves out of a list.
func (s *Server) withProblems(session *journal.Session) error {
	if session.Error == "" && session.Counts.Rejected == 0 {
		return nil
	}
	found, err := s.cfg.Journal.Problems(session.ID, FewProblems)
	if errors.Is(err, journal.ErrNotFound) {
		return nil // forgotten just now
	}
	session.Problems = found
	return err
}

// getSession is GET /api/v1/sessions/{id}, with ?wait= until its next change
// of state.
func (s *Server) getSession(w http.ResponseWriter, r *request) error {
	if wait := r.URL.Query().Get("wait"); wait != "" {
		d, err := time.ParseDuration(wait)
		if err != nil || d < 0 {
			return wire.Errorf(wire.BadRequest, "wait=%.64s is no duration such as 30s", wait)
		}
		if err := s.waitChange(r, min(d, wire.MaxWait)); err != nil {
			return err
		}
	}
	asked := r.URL.Query()
	session, err := s.cfg.Journal.Head(r.session.ID)
	if !asked.Has("few") && err == nil {
		session, err = s.cfg.Journal.Session(r.session.ID)
	} else if err == nil {
		err = s.withProblems(&session)
	}
	if err != nil {
		return err
	}
	d := s.document(&session, true)
	if asked.Has("commits") {
		d.Commits = s.commits(func(yield func(string) bool) {
			for _, ref := range session.Refs {
				if !yield(ref.Old) || !yield(ref.New) {
					return
				}
			}
		})
	}
	return writeJSON(w, http.StatusOK, d)
}

// answerWhole answers a session as it is now, with all of its refs and problems.
func (s *Server) answerWhole(w http.ResponseWriter, status int, id string) error {
	session, err := s.cfg.Journal.Session(id)
	if err != nil {
		return err
	}
	return writeJSON(w, status, s.document(&session, true))
}

// waitChange waits for a session to change its state. One that has its outcome
// is answered at once: a client that asks late must not wait for what has
// already happened.
func (s *Server) waitChange(r *request, d time.Duration) error {
	changed := s.cfg.Journal.Changed(r.session.ID)
	now, err := s.cfg.Journal.Head(r.session.ID)
	if err != nil || now.State != r.session.State || now.State.Final() || now.State == journal.Held || now.State == journal.Open && (now.Error != "" || now.Detail != "") {
		return err
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	return r.work.outside(r.Context(), func() error {
		select {
		case <-changed:
		case <-timer.C:
		case <-r.Context().Done():
			return context.Cause(r.Context())
		}
		return nil
	})
}

// abortSession is DELETE /api/v1/sessions/{id}.
func (s *Server) abortSession(w http.ResponseWriter, r *request) error {
	session, err := s.cfg.Publisher.Abort(r.session.ID)
	if err != nil {
		return err
	}
	s.event(r, "session aborted", "opener", session.Token, "ref", session.RefList(),
		"objects", session.Counts.Staged, "bytes", session.Counts.Received, "age", session.Age(time.Now()))
	return s.answerWhole(w, http.StatusOK, session.ID)
}

// finalize is POST /api/v1/sessions/{id}/finalize. It only starts; the outcome
// is in the session.
func (s *Server) finalize(w http.ResponseWriter, r *request) error {
	switch r.session.State {
	case journal.Aborted, journal.Expired:
		return closed(r.session)
	case journal.Open:
		session, err := s.cfg.Journal.Move(r.session.ID, journal.Verifying, func(s *journal.Session) {
			s.Error, s.Detail, s.Remote, s.Request, s.Subject = "", "", r.remote, r.id, r.token.Subject
		})
		if err != nil {
			return err
		}
		s.event(r, "finalize asked", "ref", session.RefList(), "objects", session.Counts.Staged, "bytes", session.Counts.Received, "age", session.Age(time.Now()))
		s.cfg.Publisher.Enqueue()
	}
	return s.answerWhole(w, http.StatusAccepted, r.session.ID)
}

func closed(session *journal.Session) error {
	return closedProblem(&journal.StateError{ID: session.ID, From: session.State})
}

// document is a session as the API shows it.
func (s *Server) document(j *journal.Session, withUploads bool) wire.Session {
	d := j.Document()
	d.Bytes.Received += s.cfg.Store.Received(j.ID)
	d.Interrupted = s.interrupted.of(j.ID)
	if withUploads {
		d.Uploads = s.cfg.Store.Uploads(j.ID)
	} else {
		d.Steps = nil
	}
	return d
}
