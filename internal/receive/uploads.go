// SPDX-License-Identifier: AGPL-3.0-or-later

package receive

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/tus/tusd/v2/pkg/handler"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/token"
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
	if r.Method == http.MethodPatch {
		if err := s.checkFree(r); err != nil {
			return err
		}
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
	throttle := func() error {
		s.cfg.Store.Throttle(r.Context(), session.Token)
		return nil
	}
	if err := errors.Join(r.work.outside(r.Context(), throttle), s.touch(session.ID)); err != nil {
		return err
	}
	return s.forwardToTus(w, r)
}

// How many uploads there may be: under way, for each reserves its size on the disk, and
// in all, for each takes a small file until its session has ended.
const (
	maxUploads      = 256             // of a session
	maxTokenUploads = 16 * maxUploads // of all sessions of a token
	spareUploads    = 10_000          // of a session in all, beside one for each object
)

// checkSpace refuses an upload for which there is no room: in the session's share,
// in its token's, or on the disk, before it is full.
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
	recorded, err := s.cfg.Journal.Recorded(session.ID)
	if err != nil {
		return err
	}
	if err := checkUploads(session, len(uploads), s.cfg.Store.TokenUploads(session.Token), recorded); err != nil {
		return err
	}
	if limit := int64(limits.MaxSessionSize); limit > 0 && total > limit {
		return wire.Errorf(wire.TooLarge, "session %s may have %d bytes in all (max-session-size), with this upload it would have %d", session.ID, limit, total)
	}
	room, err := s.cfg.Store.Room(session.Token)
	if err != nil {
		return err
	}
	if err := checkReserved(session.Token, &room, length, int64(limits.MaxReserved)); err != nil {
		return err
	}
	if err := checkRoom(session.ID, &room, length, int64(limits.MinFreeSpace)); err != nil {
		return err
	}
	return s.checkMinFree(session.ID, length+room.Own)
}

// checkUploads refuses one upload more of a session that has some under way, as its token
// has, and others that were recorded.
func checkUploads(session *journal.Session, underway, ofToken int, recorded int64) error {
	switch {
	case underway >= maxUploads:
		return wire.Errorf(wire.Quota, "session %s has %d uploads under way, and may have no more at once", session.ID, underway).
			WithHint("finish or terminate some first")
	case ofToken >= maxTokenUploads:
		return wire.Errorf(wire.Quota, "the sessions of token %s have %d uploads under way, and may have no more at once", session.Token, ofToken).
			WithHint("finish or terminate some, or abort their sessions: ostree-upload sessions --status open")
	case recorded >= session.Counts.Known+spareUploads:
		return wire.Errorf(wire.TooLarge, "session %s has had %d uploads: one for each of its objects, and %d more", session.ID, recorded, spareUploads).
			WithHint("send what is lacking in packs, in a new session")
	}
	return nil
}

// checkReserved refuses an upload beyond what the uploads of a token may have
// claimed without having sent it.
func checkReserved(token string, room *tusstore.Room, length, limit int64) error {
	switch {
	case limit == 0 || room.Own+length <= limit:
		return nil
	case length > limit:
		return wire.Errorf(wire.TooLarge, "the upload has %d bytes, more than the %d that token %s may have announced and not sent (max-reserved)", length, limit, token)
	}
	return wire.Errorf(wire.Quota, "uploads of token %s have announced %d bytes that have not come, and with this one of %d they would be more than %d (max-reserved)", token, room.Own, length, limit).
		WithHint("send or terminate those uploads, or abort their sessions: ostree-upload sessions --status open")
}

// minInodes is how many inodes uploads leave free: the repository needs some to
// publish what has come.
const minInodes = 1000

// checkRoom refuses an upload for which the disk has no room. What is on its way for
// other tokens takes half of it at most: claims must lock nobody out.
func checkRoom(session string, room *tusstore.Room, length, minFree int64) error {
	if minFree > 0 && room.Inodes < minInodes {
		return noRoom(session, "only %d inodes are free on the server, and %d are to stay free (min-free-space: 0 lifts this)", room.Inodes, minInodes)
	}
	free := room.Bytes - minFree
	free -= min(room.Others, max(free, 0)/2) + room.Own
	if length > free {
		return noRoom(session, "the upload has %d bytes and %d are to stay free (min-free-space), but only %d are free on the server, of which other uploads under way will take %d",
			length, minFree, room.Bytes, room.Bytes-minFree-free)
	}
	return nil
}

// checkAnyRoom refuses a new session while the disk has no room for anything: the
// journal has to grow for it.
func (s *Server) checkAnyRoom(t *token.Token) error {
	room, err := s.cfg.Store.Room(t.Name)
	if err != nil {
		return err
	}
	least := int64(s.cfg.Settings().Limits.MinFreeSpace)
	if room.Bytes >= least && (least == 0 || room.Inodes >= minInodes) {
		return nil
	}
	return wire.Errorf(wire.InsufficientStorage, "no new session: %d bytes and %d inodes are to stay free (min-free-space), and the server has %d and %d", least, minInodes, room.Bytes, room.Inodes).
		WithHint("free some on the server, then push again")
}

func noRoom(session, format string, args ...any) error {
	return wire.Errorf(wire.InsufficientStorage, format, args...).
		WithHint("free some on the server, then resume session %s", session)
}

// checkFree refuses bytes of an upload once the disk has no room for them: others may
// have filled it since the upload was created.
func (s *Server) checkFree(r *request) error {
	room, err := s.cfg.Store.Room(r.session.Token)
	if err != nil {
		return err
	}
	room.Own, room.Others = 0, 0 // they had their turn when they were created
	length := max(r.ContentLength, 0)
	if err := checkRoom(r.session.ID, &room, length, int64(s.cfg.Settings().Limits.MinFreeSpace)); err != nil {
		return err
	}
	return s.checkMinFree(r.session.ID, length)
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
			WithHint("send its name to %s first", asked(r.Request, "/api/v1/sessions/"+session+"/objects"))
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
	return checkLength(r, "a metadata object (max-metadata-size)", int64(s.cfg.Settings().Limits.MaxMetadataSize))
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
