// SPDX-License-Identifier: AGPL-3.0-or-later

package receive

import (
	"errors"
	"io/fs"
	"net/http"

	"github.com/lirios/ostree-upload/internal/encode"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
)

// info is GET /api/v1/info.
func (s *Server) info(w http.ResponseWriter, r *request) error {
	limits := s.cfg.Settings().Limits
	free, because, err := s.free(r.token.Name)
	if err != nil {
		return err
	}
	holder := shownToken(r.token)
	return writeJSON(w, http.StatusOK, wire.Info{
		Version: s.cfg.Version,
		Mode:    s.cfg.Repo.Mode(),
		Tus:     uploadsPath,
		Limits: wire.InfoLimits{
			MaxObjectSize:   int64(limits.MaxObjectSize),
			MaxMetadataSize: int64(limits.MaxMetadataSize),
			MaxSessionSize:  int64(limits.MaxSessionSize),
			MaxPack:         wire.MaxPack,
			MaxPackPayload:  wire.MaxPackPayload,
			MaxNames:        wire.MaxNames,
			MaxRefs:         limits.MaxRefs,
			MaxObjects:      int64(limits.MaxObjects),
			MaxWindow:       encode.MaxWindow,
			MaxInflated:     encode.MaxInflated,
			MaxFrames:       encode.MaxFrames,
			MaxMade:         encode.MaxMade,
			MaxSource:       encode.MaxSource,
		},
		CollectionID: s.cfg.Repo.CollectionID(),
		Free:         &free,
		FreeBecause:  because,
		Encodings:    s.encodings(),
		Features:     s.features(),
		Token:        &holder,
	})
}

func (s *Server) features() []string {
	all := []string{wire.FeatureRepair, wire.FeatureHold, wire.FeaturePromote}
	if len(s.cfg.Settings().Policy) > 0 {
		all = append(all, wire.FeaturePolicy)
	}
	return all
}

// encodings are those that clients may use. A difference is of content that the server has
// to read.
func (s *Server) encodings() []string {
	list := []string{encode.NameArchive, encode.NameZstd}
	if s.cfg.Repo.ReadsContent() {
		list = append(list, encode.NameDelta)
	}
	return list
}

// commitMeta is GET /api/v1/commitmeta/{commit}, for a commit that one of the
// token's refs names.
func (s *Server) commitMeta(w http.ResponseWriter, r *request) error {
	commit, err := ostree.ParseChecksum(r.PathValue("commit"))
	if err != nil {
		return wire.Errorf(wire.BadRequest, "%v", err)
	}
	named, err := s.isNamed(r, commit)
	if err != nil {
		return err
	}
	var meta []byte
	if named {
		meta, err = s.cfg.Repo.Metadata(ostree.Name{Checksum: commit, Type: ostree.CommitMeta})
	}
	if !named || errors.Is(err, fs.ErrNotExist) {
		return wire.Errorf(wire.NotFound, "commit %s has no detached metadata here", commit)
	}
	if err != nil {
		return err
	}
	if err := ostree.ParseCommitMeta(meta); err != nil {
		return wire.Errorf(wire.BadObjects, "the detached metadata of commit %s is damaged in the server's repository: %v", commit, err).
			WithHint("replace it by that of the build repository: push --repair")
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	_, _ = w.Write(meta) // a client that is gone cannot be told
	return nil
}

func (s *Server) isNamed(r *request, commit ostree.Checksum) (bool, error) {
	all, err := s.currentRefs()
	if err != nil {
		return false, err
	}
	for name, c := range all {
		if c == commit && r.token.MayPush(name) {
			return true, nil
		}
	}
	return false, nil
}
