// SPDX-License-Identifier: AGPL-3.0-or-later

package receive

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"

	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/publish"
)

// mostPreviewing is how many answers with files of previews are under way at a time. Others
// wait.
const mostPreviewing = 32

// preview is GET /preview/{id}/{key}/{path...}: a repository that shows a held session to
// whoever knows the key, without a token, as clients of OSTree send none.
func (s *Server) preview(w http.ResponseWriter, r *request) error {
	select {
	case s.previewing <- struct{}{}:
		defer func() { <-s.previewing }()
	case <-r.Context().Done():
		return context.Cause(r.Context())
	}
	content, size, err := s.cfg.Publisher.Preview(r.Context(), r.PathValue("id"), r.PathValue("key"), r.PathValue("path"))
	if errors.Is(err, publish.ErrNoPreview) {
		return wire.Errorf(wire.NotFound, "there is nothing of a held session here").
			WithHint("it may have been published or rejected: ostree-upload sessions show tells, and where its preview is")
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
