// SPDX-License-Identifier: AGPL-3.0-or-later

package receive

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/tus/tusd/v2/pkg/handler"
	"golang.org/x/sys/unix"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/token"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/journal"
)

// fail sends an error as a Problem, and logs it.
func (s *Server) fail(w http.ResponseWriter, r *request, err error) {
	p := problemOf(err)
	if p.Status == http.StatusInternalServerError && r.Context().Err() != nil {
		p = cutOff(r.Context())
	}
	s.logProblem(r, p, err)
	writeProblem(w, r, p)
}

// statusGone is what a request counts as whose client was gone before the answer, which
// nobody reads. nginx logs the same number.
const statusGone = 499

// cutOff is the problem of a request that did not end: its client is gone, or the server
// stops.
func cutOff(ctx context.Context) *wire.Problem {
	p := wire.Errorf(wire.Unavailable, "the request was cut off").WithHint("send it again")
	if !errors.Is(context.Cause(ctx), handler.ErrServerShutdown) {
		p.Status = statusGone
	}
	return p
}

func problemOf(err error) *wire.Problem {
	var p *wire.Problem
	var closed *journal.StateError
	var denied *token.Denied
	var tooLarge *http.MaxBytesError
	var full *journal.FullError
	switch {
	case errors.As(err, &p):
		return p
	case errors.As(err, &closed):
		return closedProblem(closed)
	case errors.As(err, &full):
		return fullProblem(full)
	case errors.As(err, &denied):
		return wire.Errorf(wire.Forbidden, "%v", denied).WithHint("%s", denied.Next)
	case errors.Is(err, journal.ErrStopped):
		return wire.Errorf(wire.Internal, "%v", err).WithHint("restart the server; its log says what happened")
	case errors.Is(err, journal.ErrNotFound):
		return wire.Errorf(wire.NotFound, "%v", err)
	case errors.As(err, new(*ostree.BadRefError)):
		return wire.Errorf(wire.Internal, "%v", err).WithHint("on the server: ostree-upload check --content says how the ref is written again")
	case errors.As(err, &tooLarge):
		return wire.Errorf(wire.TooLarge, "the request has more than %d bytes", tooLarge.Limit)
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return wire.Errorf(wire.InsufficientStorage, "no space left on the server").
			WithHint("free some on the server, then resume the session")
	}
	return wire.Errorf(wire.Internal, "%v", err).WithHint("the server's log may say more")
}

func closedProblem(e *journal.StateError) *wire.Problem {
	p := wire.Errorf(wire.SessionClosed, "%v", e)
	if e.From.Final() {
		return p.WithHint("nothing more can be done with it; a new push opens a new session")
	}
	return p.WithHint("look again when it has its outcome: ostree-upload sessions show %s", e.ID)
}

func writeProblem(w http.ResponseWriter, r *request, p *wire.Problem) {
	named := *p
	named.Request = r.id
	h := w.Header()
	h.Set("Content-Type", wire.ProblemType)
	h.Set("Cache-Control", "no-store")
	h.Del("Content-Length")
	w.WriteHeader(p.Status)
	if r.Method != http.MethodHead {
		// A client that is gone cannot be told.
		_ = json.NewEncoder(w).Encode(&named)
	}
}

func writeJSON(w http.ResponseWriter, status int, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n')) // a client that is gone cannot be told
	return nil
}
