// SPDX-License-Identifier: AGPL-3.0-or-later

package receive

import (
	"net/http"
	"strconv"
	"time"

	"github.com/tus/tusd/v2/pkg/handler"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/journal"
	"github.com/lirios/ostree-upload/tusstore"
)

// upload lets a request through to an upload of a session of its token. Only its
// offset can still be asked for once the session is no longer open.
func (s *Server) upload(w http.ResponseWriter, r *request) error {
	if id := tusstore.ID(r.PathValue("id"), r.PathValue("name")); !isUploadID(id) {
		return wire.Errorf(wire.NotFound, "there is no upload %.200q", id)
	}
	return s.forwardToTus(w, r)
}

func isUploadID(id string) bool {
	_, _, ok := tusstore.SplitID(id)
	return ok
}

// writeUpload is upload for what needs an open session.
func (s *Server) writeUpload(w http.ResponseWriter, r *request) error {
	if r.session.State != journal.Open {
		return closed(r.session)
	}
	if err := s.touch(r.session.ID); err != nil {
		return err
	}
	return s.upload(w, r)
}

func (s *Server) touch(session string) error {
	return s.cfg.Journal.Touch(session, time.Duration(s.cfg.Settings().SessionTTL))
}

// checkMetadata refuses an upload that does not say where it belongs.
func checkMetadata(meta map[string]string) error {
	if meta["session"] == "" || (meta["object"] == "") == (meta["pack"] == "") {
		return wire.Errorf(wire.BadRequest, "Upload-Metadata needs session, and either object or pack")
	}
	if !isDigest(meta["digest"]) {
		return wire.Errorf(wire.BadRequest, "Upload-Metadata: digest is not the hex SHA-256 of the upload")
	}
	return nil
}

// createUpload is POST /files/. It refuses an upload that the session did not
// announce or that cannot be what it says.
func (s *Server) createUpload(w http.ResponseWriter, r *request) error {
	meta := handler.ParseMetadataHeader(r.Header.Get("Upload-Metadata"))
	session := r.session
	if session.State != journal.Open {
		return closed(session)
	}
	var err error
	if meta["pack"] != "" {
		err = checkPack(r, meta["pack"])
	} else {
		err = s.checkObject(r, session.ID, meta["object"])
	}
	if err != nil {
		return err
	}
	if answered, err := s.answerExisting(w, r); answered || err != nil {
		return err
	}
	if err := s.checkSpace(r, session); err != nil {
		return err
	}
	s.cfg.Store.Throttle(r.Context())
	if err := s.touch(session.ID); err != nil {
		return err
	}
	return s.forwardToTus(w, r)
}

// maxUploads is how many uploads of a session may be under way: each reserves
// its size on the disk.
const maxUploads = 256

// checkSpace refuses an upload for which there is no room: in the session's
// share, or on the disk, before it is full.
func (s *Server) checkSpace(r *request, session *journal.Session) error {
	length, err := strconv.ParseInt(r.Header.Get("Upload-Length"), 10, 64)
	if err != nil {
		return nil // tusd says what is wrong with it
	}
	limits := s.cfg.Settings().Limits
	total := session.Counts.Received + length
	uploads := s.cfg.Store.Uploads(session.ID)
	for _, u := range uploads {
		total += u.Size
	}
	if len(uploads) >= maxUploads {
		return wire.Errorf(wire.Quota, "session %s has %d uploads under way", session.ID, len(uploads)).
			WithHint("finish or terminate some first")
	}
	if limit := int64(limits.MaxSessionSize); limit > 0 && total > limit {
		return wire.Errorf(wire.TooLarge, "session %s may have %d bytes in all (max-session-size), with this upload it would have %d", session.ID, limit, total)
	}
	free, err := s.cfg.Store.Free()
	if err != nil {
		return err
	}
	if free-length < int64(limits.MinFreeSpace) {
		return wire.Errorf(wire.InsufficientStorage, "the upload has %d bytes and %d are to stay free (min-free-space), but only %d are free on the server", length, int64(limits.MinFreeSpace), max(free, 0)).
			WithHint("free some on the server, then resume session %s", session.ID)
	}
	return nil
}

func isDigest(s string) bool {
	_, err := ostree.ParseChecksum(s)
	return s == "" || err == nil
}

func checkPack(r *request, name string) error {
	if !wire.IsPackName(name) {
		return wire.Errorf(wire.BadRequest, "pack name %.100q is not up to 64 of a-z, 0-9 and -", name)
	}
	return checkLength(r, "a pack", wire.MaxPack)
}

func (s *Server) checkObject(r *request, session, object string) error {
	n, err := ostree.ParseName(object)
	if err != nil {
		return wire.Errorf(wire.BadRequest, "%v", err)
	}
	statuses, err := s.cfg.Journal.Statuses(session, []ostree.Name{n})
	if err != nil {
		return err
	}
	if statuses[0] == 0 {
		return wire.Errorf(wire.BadRequest, "object %s is not in the object set of session %s", n, session).
			WithHint("send its name to /api/v1/sessions/%s/objects first", session)
	}
	switch n.Type {
	case ostree.File:
		if limit := int64(s.cfg.Settings().Limits.MaxObjectSize); limit > 0 {
			return checkLength(r, "a content object", archiveBound(limit))
		}
		return nil
	case ostree.CommitMeta:
		return checkLength(r, "detached metadata", ostree.MaxCommitMeta)
	}
	return checkLength(r, "a metadata object", ostree.MaxMetadata)
}

// archiveBound is the most bytes that content of size bytes takes in archive
// form: deflate adds 5 bytes to each block that it stores, and the header with
// its xattrs comes on top.
func archiveBound(size int64) int64 { return size + size/1000 + 1<<20 }

func checkLength(r *request, what string, limit int64) error {
	length, err := strconv.ParseInt(r.Header.Get("Upload-Length"), 10, 64)
	if err == nil && length > limit {
		return wire.Errorf(wire.TooLarge, "%s has at most %d bytes, this upload is to have %d", what, limit, length)
	}
	return nil // tusd says what is wrong with another length
}
