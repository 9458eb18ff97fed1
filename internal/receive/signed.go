// SPDX-License-Identifier: AGPL-3.0-or-later

package receive

import (
	"crypto/sha256"
	"errors"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/publish"
)

// checkSigned refuses a session of which it is known already that a commit lacks
// signatures. The others are looked at when it is published, also if the server cannot tell
// now who has signed them.
func (s *Server) checkSigned(req *wire.OpenRequest) error {
	commits, metas, err := readCommits(req.Commits)
	if err != nil || len(s.cfg.Settings().Policy) == 0 {
		return err
	}
	err = s.cfg.Publisher.CheckSigned(req, commits, metas)
	var refused *publish.Outcome
	if !errors.As(err, &refused) {
		return err
	}
	if refused.Code == wire.Policy {
		return wire.Errorf(wire.Policy, "%v", refused)
	}
	s.cfg.Log.Warn("cannot tell who has signed the commits of a session that is opened", "err", refused)
	return nil
}

// readCommits gives the commits of a request, and their detached metadata, by their
// checksums.
func readCommits(list []wire.SignedCommit) (commits, metas map[ostree.Checksum][]byte, err error) {
	commits, metas = make(map[ostree.Checksum][]byte), make(map[ostree.Checksum][]byte)
	if len(list) > wire.MaxSigned {
		return nil, nil, wire.Errorf(wire.BadRequest, "commits: there are %d, and may be %d", len(list), wire.MaxSigned)
	}
	for _, given := range list {
		c := ostree.Checksum(sha256.Sum256(given.Commit))
		if _, err := ostree.ParseCommit(given.Commit); err != nil {
			return nil, nil, wire.Errorf(wire.BadRequest, "commits: %s is no commit: %v", c, err)
		}
		if given.CommitMeta != nil {
			if err := ostree.ParseCommitMeta(given.CommitMeta); err != nil {
				return nil, nil, wire.Errorf(wire.BadRequest, "commits: the detached metadata of %s: %v", c, err)
			}
			metas[c] = given.CommitMeta
		}
		commits[c] = given.Commit
	}
	return commits, metas, nil
}
