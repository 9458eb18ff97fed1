// SPDX-License-Identifier: AGPL-3.0-or-later

package receive

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/token"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/journal"
)

// refQuery is what is asked for of the list of refs.
type refQuery struct {
	glob  string // "": all
	after string // those whose names come after this one
	limit int    // 0: no limit
	moved bool   // with their last moves
	all   bool   // also those that the token may not move
}

func readRefQuery(asked url.Values) (q refQuery, err error) {
	q = refQuery{glob: asked.Get("glob"), after: asked.Get("after"), moved: asked.Get("moved") != "", all: asked.Get("all") != ""}
	if q.glob != "" {
		if err := token.CheckGlob(q.glob); err != nil {
			return q, wire.Errorf(wire.BadRequest, "%v", err)
		}
	}
	if asked.Has("limit") {
		q.limit, err = readLimit(asked.Get("limit"))
	}
	return q, err
}

// readLimit reads how many entries of a list are asked for.
func readLimit(limit string) (int, error) {
	n, err := strconv.Atoi(limit)
	if err != nil || n < 1 || n > wire.MaxPage {
		return 0, wire.Errorf(wire.BadRequest, "limit=%.64s is not a number from 1 to %d", limit, wire.MaxPage)
	}
	return n, nil
}

// matches tells whether a ref is asked for. A glob without a star is a ref or a folder.
func (q *refQuery) matches(ref string) bool {
	return q.glob == "" || token.MatchGlob(q.glob, ref) || !strings.Contains(q.glob, "*") && strings.HasPrefix(ref, q.glob+"/")
}

// refs is GET /api/v1/refs: those that the token may move or, if it may promote, all.
func (s *Server) refs(w http.ResponseWriter, r *request) error {
	q, err := readRefQuery(r.URL.Query())
	if err != nil {
		return err
	}
	if err := s.repoThere(); err != nil {
		return err
	}
	names, next, err := s.refNames(r.token, &q)
	if err != nil {
		return err
	}
	list := wire.RefList{Next: next}
	if list.Refs, err = s.refStates(names); err == nil && q.moved {
		err = s.addMoves(list.Refs)
	}
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, list)
}

// refNames are the names of a page.
func (s *Server) refNames(t *token.Token, q *refQuery) (names []ostree.RefName, next string, err error) {
	all, err := s.cfg.Repo.ListedRefs()
	sees := func(ref string) bool { return t.MaySee(ref) || q.all && t.May(token.Promote) }
	for _, n := range all {
		if n.Name <= q.after || !q.matches(n.Name) || !sees(n.Name) {
			continue
		}
		if q.limit > 0 && len(names) == q.limit {
			return names, names[q.limit-1].Name, err
		}
		names = append(names, n)
	}
	return names, "", err
}

// refStates reads refs, some at once: each is a file of its own, and so is the detached
// metadata of its commit.
func (s *Server) refStates(names []ostree.RefName) (map[string]wire.RefState, error) {
	states := make([]*wire.RefState, len(names))
	var g errgroup.Group
	readers := runtime.GOMAXPROCS(0)
	for n := range readers {
		g.Go(func() (err error) {
			metas := map[ostree.Checksum]string{}
			for i := n; i < len(names) && err == nil; i += readers {
				states[i], err = s.refState(names[i], metas)
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	refs := make(map[string]wire.RefState, len(names))
	for i, state := range states {
		if state != nil {
			refs[names[i].Name] = *state
		}
	}
	return refs, nil
}

// refState reads one ref, nil if it is gone. metas are the SHA-256 of detached metadata
// that were found out before.
func (s *Server) refState(n ostree.RefName, metas map[ostree.Checksum]string) (*wire.RefState, error) {
	var state wire.RefState
	if n.Alias {
		target, is, err := s.cfg.Repo.Alias(n.Name)
		if !is || err != nil {
			return nil, err
		}
		state.Alias = target
	}
	commit, err := s.cfg.Repo.OwnRef(n)
	if errors.Is(err, fs.ErrNotExist) {
		if n.Alias {
			return &state, nil
		}
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	state.Commit = commit.String()
	sum, known := metas[commit]
	if !known {
		if sum, err = s.sumOfMeta(commit); err != nil {
			return nil, err
		}
		metas[commit] = sum
	}
	state.CommitMeta = sum
	return &state, nil
}

// sumOfMeta is the SHA-256 of a commit's detached metadata, "" if it has none.
func (s *Server) sumOfMeta(commit ostree.Checksum) (string, error) {
	meta, err := s.cfg.Repo.Metadata(ostree.Name{Checksum: commit, Type: ostree.CommitMeta})
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	sum := sha256.Sum256(meta)
	return hex.EncodeToString(sum[:]), err
}

// addMoves adds their last moves to refs.
func (s *Server) addMoves(refs map[string]wire.RefState) error {
	names := make([]string, 0, len(refs))
	for name := range refs {
		names = append(names, name)
	}
	slices.Sort(names)
	last, err := s.cfg.Journal.LastMoves(names)
	for name, m := range last {
		state, move := refs[name], shownMove(m)
		state.Moved = &move
		refs[name] = state
	}
	return err
}

// errNoLog is for a path below /api/v1/refs/ that is no log of a ref.
func errNoLog(r *http.Request) error {
	return wire.Errorf(wire.NotFound, "there is nothing at %s", asked(r, r.URL.Path)).
		WithHint("the log of a ref is at %s, and %s is what it is now", asked(r, "/api/v1/refs/REF/log"), asked(r, "/api/v1/refs?glob=REF"))
}

// refLog is GET /api/v1/refs/{ref}/log. A ref's name has slashes, so the route takes all
// that is below, and this looks for its end.
func (s *Server) refLog(w http.ResponseWriter, r *request) error {
	ref, is := strings.CutSuffix(r.PathValue("path"), "/log")
	if !is {
		return errNoLog(r.Request)
	}
	asked, limit := r.URL.Query(), wire.PageSize
	var err error
	if asked.Has("limit") {
		if limit, err = readLimit(asked.Get("limit")); err != nil {
			return err
		}
	}
	if !r.token.MaySee(ref) && !r.token.May(token.Sessions) && !r.token.May(token.Promote) {
		return noMoves(ref)
	}
	moves, next, err := s.cfg.Journal.Log(ref, asked.Get("before"), limit)
	if errors.Is(err, journal.ErrNotFound) {
		return wire.Errorf(wire.NotFound, "before=%.64s is no session that is remembered", asked.Get("before"))
	}
	if err != nil {
		return err
	}
	if len(moves) == 0 && asked.Get("before") == "" {
		if _, err := s.cfg.Repo.Ref(ref); err != nil {
			return noMoves(ref)
		}
	}
	log := wire.RefLog{Ref: ref, Moves: make([]wire.RefMove, len(moves)), Next: next}
	for i, m := range moves {
		log.Moves[i] = shownMove(m)
	}
	if asked.Has("commits") {
		log.Commits = s.commits(func(yield func(string) bool) {
			for _, m := range moves {
				if !yield(m.Old) || !yield(m.New) {
					return
				}
			}
		})
	}
	return writeJSON(w, http.StatusOK, log)
}

// noMoves is the answer for a ref that there is not, and for one that the token does not
// see.
func noMoves(ref string) error {
	return wire.Errorf(wire.NotFound, "there is no ref %.300q of this token, and no move of one is remembered", ref).
		WithHint("ostree-upload refs list lists those there are")
}

// shownMove is a move as the API shows it.
func shownMove(m journal.RefMove) wire.RefMove {
	s := wire.RefMove{At: m.At, Token: m.Token, By: m.By, Session: m.Session, Force: m.Force, Old: m.Old, New: m.New, Bytes: m.Bytes, How: wire.Pushed}
	switch {
	case m.New == "":
		s.How = wire.Deleted
	case m.Back:
		s.How = wire.RolledBack
	case m.Promote:
		s.How = wire.Set
	}
	return s
}
