// SPDX-License-Identifier: AGPL-3.0-or-later

package receive

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/journal"
)

// negotiate is POST /api/v1/sessions/{id}/objects: it adds names to the
// session's set and answers those that the server lacks.
func (s *Server) negotiate(w http.ResponseWriter, r *request) error {
	session := r.session
	if session.State != journal.Open {
		return closed(session)
	}
	names, err := readNames(r)
	if err != nil {
		return err
	}
	if err := s.waitIngested(r); err != nil {
		return err
	}
	defer s.cfg.Store.Hold()()
	s.cfg.Telling.RLock()
	defer s.cfg.Telling.RUnlock()
	entries, lacking, err := s.look(session, names)
	if err != nil {
		return err
	}
	if err := s.cfg.Journal.AddWithin(s.most(), session.ID, entries); err != nil {
		return err
	}
	s.event(r, "objects negotiated", "objects", len(names), "lacking", len(lacking), "took", time.Since(r.began))
	return writeNames(w, r, lacking)
}

// fullSets is how many sessions with all the objects that one may have a token may have
// open.
const fullSets = 2

func (s *Server) most() journal.Most {
	most := int64(s.cfg.Settings().Limits.MaxObjects)
	return journal.Most{Session: most, Token: fullSets * most}
}

// fullProblem is the answer to names beyond those bounds.
func fullProblem(e *journal.FullError) *wire.Problem {
	if e.Token == "" {
		return wire.Errorf(wire.TooLarge, "%v (max-objects)", e).
			WithHint("push fewer refs at once or with --depth, or have the limit raised in the server's configuration")
	}
	return wire.Errorf(wire.Quota, "%v (%d times max-objects)", e, fullSets).
		WithHint("wait until some are published, or abort those that nobody will finish: ostree-upload sessions --status open")
}

// waitIngested waits until what has come of the request's session is ingested.
func (s *Server) waitIngested(r *request) error {
	return r.work.outside(r.Context(), func() error { return s.cfg.Store.Wait(r.Context(), r.session.ID) })
}

// lookup is POST /api/v1/objects: it answers those names that the server lacks,
// and notes nothing. A client asks before it opens a session.
func (s *Server) lookup(w http.ResponseWriter, r *request) error {
	if err := r.token.CheckSend(); err != nil {
		return err
	}
	list, err := readNames(r)
	if err != nil {
		return err
	}
	var lacking []ostree.Name
	for _, n := range list {
		status, err := s.status(n, 0, false)
		if err != nil {
			return err
		}
		if status == journal.Missing {
			lacking = append(lacking, n)
		}
	}
	return writeNames(w, r, lacking)
}

func readNames(r *request) ([]ostree.Name, error) {
	body := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		unzip, err := gzip.NewReader(r.Body)
		if err != nil {
			return nil, wire.Errorf(wire.BadRequest, "the body is not gzip: %v", err)
		}
		body = &limited{unzip, wire.MaxBody}
	}
	names, err := wire.ParseNames(body, wire.MaxNames)
	var tooLarge *http.MaxBytesError
	switch {
	case err == nil, errors.As(err, &tooLarge):
		return names, err
	case errors.Is(err, wire.ErrTooManyNames):
		return nil, wire.Errorf(wire.TooLarge, "%v", err).WithHint("send them in several requests")
	}
	return nil, wire.Errorf(wire.BadRequest, "%v", err)
}

// limited fails, where io.LimitReader would end, once n bytes were read.
type limited struct {
	r io.Reader
	n int64
}

func (l *limited) Read(b []byte) (int, error) {
	n, err := l.r.Read(b)
	if l.n -= int64(n); l.n < 0 {
		return 0, &http.MaxBytesError{Limit: wire.MaxBody}
	}
	return n, err
}

// look finds where each object is. Detached metadata is always lacking: it is
// not content-addressed, so no copy elsewhere can stand for it. So is what
// finalize found bad in the repository, until a good copy is staged.
func (s *Server) look(session *journal.Session, names []ostree.Name) (entries []journal.Entry, lacking []ostree.Name, err error) {
	known, err := s.cfg.Journal.Statuses(session.ID, names)
	if err != nil {
		return nil, nil, err
	}
	entries = make([]journal.Entry, len(names))
	for i, n := range names {
		status, err := s.status(n, known[i], session.Repair)
		if err != nil {
			return nil, nil, err
		}
		entries[i] = journal.Entry{Name: n, Status: status}
		if status == journal.Missing {
			if known[i] != 0 && n.Type != ostree.CommitMeta {
				// It may have been staged, and proved bad or missing since.
				if err := s.cfg.Store.Forget(session.ID, n); err != nil {
					return nil, nil, err
				}
			}
			lacking = append(lacking, n)
		}
	}
	return entries, lacking, nil
}

// status is where an object is that the session knows as known. What arrived stays
// staged as long as it is: the repository's copy may be what it is to replace. For a
// repair that holds of what is missing, too: it may have been staged, and been lost.
func (s *Server) status(n ostree.Name, known journal.Status, repair bool) (journal.Status, error) {
	if n.Type == ostree.CommitMeta {
		return journal.Missing, nil
	}
	if known != journal.Rejected && known != journal.Staged && !(repair && known == journal.Missing) {
		if there, err := s.cfg.Repo.Has(n); err != nil || there {
			return journal.Present, err
		}
	}
	if there, err := s.cfg.Store.Has(n); err != nil || there {
		return journal.Staged, err
	}
	if known == journal.Staged && !repair {
		if there, err := s.cfg.Repo.Has(n); err != nil || there {
			return journal.Present, err
		}
	}
	return journal.Missing, nil
}

func writeNames(w http.ResponseWriter, r *request, names []ostree.Name) error {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	b := wire.FormatNames(names)
	if !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		_, _ = w.Write(b) // a client that is gone cannot be told
		return nil
	}
	w.Header().Set("Content-Encoding", "gzip")
	zip, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
	if err != nil {
		return err
	}
	_, _ = zip.Write(b)
	_ = zip.Close()
	return nil
}

// salvage is POST /api/v1/sessions/{id}/salvage.
func (s *Server) salvage(w http.ResponseWriter, r *request) error {
	if r.session.State != journal.Open {
		return closed(r.session)
	}
	id := r.session.ID
	if err := s.cfg.Store.Salvage(r.Context(), id); err != nil {
		return err
	}
	if err := s.waitIngested(r); err != nil {
		return err
	}
	return s.answerWhole(w, http.StatusOK, id)
}
