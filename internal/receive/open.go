// SPDX-License-Identifier: AGPL-3.0-or-later

package receive

import (
	"errors"
	"io/fs"
	"slices"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/token"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/journal"
)

// checkOpen refuses a session that could never be published, and one that the
// token may not open.
func (s *Server) checkOpen(t *token.Token, req *wire.OpenRequest) error {
	if len(req.Refs) == 0 {
		return wire.Errorf(wire.BadRequest, "a session needs at least one ref")
	}
	if most := s.cfg.Settings().Limits.MaxRefs; most > 0 && len(req.Refs) > most {
		return wire.Errorf(wire.TooLarge, "a session has at most %d refs (max-refs), this one is to have %d", most, len(req.Refs)).
			WithHint("push them in several sessions")
	}
	if req.Promote && req.Repair {
		return wire.Errorf(wire.BadRequest, "a session that brings nothing (promote) cannot repair")
	}
	given := make(map[string]bool, len(req.Refs))
	for _, ref := range req.Refs {
		if err := checkRef(ref); err != nil {
			return err
		}
		if given[ref.Ref] {
			return wire.Errorf(wire.BadRequest, "ref %s is given twice", ref.Ref)
		}
		given[ref.Ref] = true
	}
	if err := t.CheckMoves(movesOf(&journal.Session{Refs: req.Refs, Force: req.Force, Hold: req.Hold, Promote: req.Promote})); err != nil {
		return err
	}
	if err := s.checkAliases(req.Refs); err != nil {
		return err
	}
	if err := s.checkNeeded(req.Refs); err != nil {
		return err
	}
	if err := s.checkConflicts(req.Refs); err != nil {
		return err
	}
	if req.Promote {
		if err := s.checkThere(req.Refs); err != nil {
			return err
		}
	}
	return s.checkSigned(req)
}

// movesOf is what a token is asked about for a session.
func movesOf(s *journal.Session) token.Moves {
	return token.Moves{Force: s.Force, Hold: s.Hold, Promote: s.Promote, Refs: s.Moved()}
}

// checkAliases refuses to push to what is only another name of a ref, or of one of
// its folders.
func (s *Server) checkAliases(refs []wire.Ref) error {
	for _, ref := range refs {
		target, is, err := s.cfg.Repo.Alias(ref.Ref)
		if err != nil {
			return err
		}
		if is {
			return wire.Errorf(wire.Policy, "ref %s is an alias of %s in the repository", ref.Ref, target).
				WithHint("name %s instead, give --follow-alias, or have the alias removed on the server: ostree refs --delete %s", target, ref.Ref)
		}
	}
	return nil
}

// checkNeeded refuses to delete a ref that an alias stands for, as ostree does, or that
// would then be the one of that name in the parent of the repository.
func (s *Server) checkNeeded(refs []wire.Ref) error {
	if !slices.ContainsFunc(refs, func(r wire.Ref) bool { return r.New == "" }) {
		return nil
	}
	targets, err := s.cfg.Repo.Targets()
	if err != nil {
		return err
	}
	for _, ref := range refs {
		if ref.New != "" {
			continue
		}
		if alias, has := targets[ref.Ref]; has {
			return wire.Errorf(wire.Policy, "ref %s cannot be deleted: %s is an alias of it", ref.Ref, alias).
				WithHint("have the alias removed on the server first: ostree refs --delete %s", alias)
		}
		if s.cfg.Repo.InParent(ref.Ref) {
			return wire.Errorf(wire.Policy, "ref %s cannot be deleted: it is also one of the repository's parent, and would be that then", ref.Ref).
				WithHint("delete it in the parent repository, on the server")
		}
	}
	return nil
}

func checkRef(ref wire.Ref) error {
	if err := ostree.ValidateRef(ref.Ref); err != nil {
		return wire.Errorf(wire.BadRequest, "%v", err)
	}
	if ref.New == "" && ref.Old == "" {
		return wire.Errorf(wire.BadRequest, "ref %s: neither old nor new is given; to delete it, old is the commit that it names", ref.Ref)
	}
	if _, err := ostree.ParseChecksum(ref.New); err != nil && ref.New != "" {
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
		if ref.New == "" {
			delete(existing, ref.Ref)
		}
	}
	names := make([]string, 0, len(existing))
	for name := range existing {
		names = append(names, name)
	}
	if a, b, found := ostree.ConflictingRef(names); found {
		return wire.Errorf(wire.RefConflict, "ref %s cannot be beside ref %s: one is a folder of the other", a, b).
			WithHint("take another name, or delete the other ref: ostree-upload refs delete REF")
	}
	return nil
}

// checkThere refuses to move refs to commits that the repository does not have whole, as
// far as that is told at once. Whether every object is there turns out when it is
// published.
func (s *Server) checkThere(refs []wire.Ref) error {
	for _, ref := range refs {
		c, err := ostree.ParseChecksum(ref.New)
		if err != nil {
			continue // it is deleted
		}
		if err := s.checkCommit(ref.Ref, c); err != nil {
			return err
		}
	}
	return nil
}

// checkCommit refuses to move a ref to a commit that is not there, or is for other refs.
func (s *Server) checkCommit(ref string, c ostree.Checksum) error {
	b, err := s.cfg.Repo.Metadata(ostree.Name{Checksum: c, Type: ostree.CommitObject})
	if errors.Is(err, fs.ErrNotExist) {
		return wire.Errorf(wire.MissingObjects, "ref %s: commit %s is not in the repository", ref, c).
			WithHint("a ref is set to a commit that is there; push this one, from a repository that has it")
	}
	if err != nil {
		return err
	}
	if err := s.cfg.Repo.CheckWhole(c); err != nil {
		return wire.Errorf(wire.MissingObjects, "ref %s: %v", ref, err).
			WithHint("push it, from a repository that has all of it")
	}
	commit, err := ostree.ParseCommit(b)
	if err != nil {
		return wire.Errorf(wire.BadObjects, "ref %s: commit %s in the repository: %v", ref, c, err).
			WithHint("push --repair it, from a repository that has it whole; ostree-upload check --content on the server tells what else is damaged")
	}
	if err := commit.CheckBindings(ref, s.cfg.Repo.CollectionID()); err != nil {
		return wire.Errorf(wire.Policy, "ref %s: %v", ref, err).
			WithHint("commit the same tree bound to this ref as well, and push that: ostree commit --branch=%s --bind-ref=OTHER --tree=ref=COMMIT", ref)
	}
	return nil
}
