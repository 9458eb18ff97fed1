// SPDX-License-Identifier: AGPL-3.0-or-later

package receive

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync"

	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/journal"
	"github.com/lirios/ostree-upload/publish"
)

// mostPreviewing is how many answers with files of the previews of one token's sessions are
// under way at a time. Others wait: a preview that is read slowly holds up none of others.
const mostPreviewing = 32

// previewing are the answers under way, by the name of the token whose session they show.
type previewing struct {
	mu     sync.Mutex
	tokens map[string]chan struct{} // as many as there are tokens that held a session
}

// enter waits until an answer may be given, and returns what to call after it.
func (p *previewing) enter(ctx context.Context, name string) (leave func(), err error) {
	p.mu.Lock()
	if p.tokens == nil {
		p.tokens = map[string]chan struct{}{}
	}
	under := p.tokens[name]
	if under == nil {
		under = make(chan struct{}, mostPreviewing)
		p.tokens[name] = under
	}
	p.mu.Unlock()
	select {
	case under <- struct{}{}:
		return func() { <-under }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// preview is GET /preview/{id}/{key}/{path...}: a repository that shows a held session to
// whoever knows the key, without a token, as clients of OSTree send none.
func (s *Server) preview(w http.ResponseWriter, r *request) error {
	id := r.PathValue("id")
	session, err := s.cfg.Journal.Head(id)
	if errors.Is(err, journal.ErrNotFound) {
		return noPreview()
	}
	if err != nil {
		return err
	}
	leave, err := s.previewing.enter(r.Context(), session.Token)
	if err != nil {
		return err
	}
	defer leave()
	content, size, err := s.cfg.Publisher.Preview(r.Context(), id, r.PathValue("key"), r.PathValue("path"))
	if errors.Is(err, publish.ErrNoPreview) {
		return noPreview()
	}
	if err != nil {
		return err
	}
	defer content.Close() //nolint:errcheck // it is only read
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Length", strconv.FormatInt(size, 10))
	h.Set("Cache-Control", "no-store")
	if r.Method == http.MethodHead {
		return nil
	}
	_, _ = io.Copy(w, content) // a client that has a part of it, or is gone, cannot be told
	return nil
}

func noPreview() error {
	return wire.Errorf(wire.NotFound, "there is nothing of a held session here").
		WithHint("it may have been published or rejected: ostree-upload sessions show tells, and where its preview is")
}
