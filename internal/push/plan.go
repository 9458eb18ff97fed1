// SPDX-License-Identifier: AGPL-3.0-or-later

package push

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/lirios/ostree-upload/internal/client"
	"github.com/lirios/ostree-upload/internal/hint"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
)

// checkAlias refuses an alias, which would be a ref of its own on the server, unless it
// was asked for under another name.
func (r *run) checkAlias(ref string, l local) error {
	if l.name != ref {
		return nil
	}
	target, is, err := r.repo.Alias(ref)
	if err != nil || !is {
		return err
	}
	return &Error{
		Exit: ExitRefused, Code: wire.Policy,
		Err:      fmt.Errorf("ref %s is an alias of %s here, and would be a ref of its own on the server", ref, target),
		HintText: "push " + target + ", and make the alias on the server: ostree refs --alias",
	}
}

// plan compares the local refs with the server's and returns the moves that are
// left to make, in the order of their names.
func (r *run) plan(ctx context.Context, locals map[string]local) ([]wire.Ref, error) {
	var moves []wire.Ref
	var first error
	r.left = nil
	names := slices.Sorted(maps.Keys(locals))
	for _, name := range names {
		move, err := r.move(ctx, name, locals[name])
		if err != nil {
			if first == nil {
				first = err
			}
			if err := r.leave(name, err); err != nil {
				return nil, err
			}
		} else if move != nil {
			moves = append(moves, *move)
		}
	}
	if len(r.left) == len(names) && len(names) > 0 && !r.opt.SkipUnfit {
		r.left = r.left[1:] // the first is the error
		return nil, first
	}
	return moves, nil
}

// move is how a ref is to move, nil if it need not. The server would refuse what
// this refuses, but only once all bytes have arrived.
func (r *run) move(ctx context.Context, name string, l local) (*wire.Ref, error) {
	there, commit := r.serverRefs[name], l.commit
	same := there.Commit == commit.String() && !r.opt.Repair
	if same { // first, as there may be tens of thousands
		needed, err := r.addsTo(ctx, commit, there.CommitMeta)
		if !needed || err != nil {
			return nil, err
		}
	}
	if err := r.checkAlias(name, l); err != nil {
		return nil, err
	}
	if _, err := r.named(name, r.opt.FollowAlias); err != nil {
		return nil, err
	}
	if err := r.repo.CheckWhole(commit); err != nil {
		return nil, &unfitError{r.notWholeError(name, err)}
	}
	if err := r.checkName(name); err != nil {
		return nil, err
	}
	if !same {
		if err := r.checkMove(name, there.Commit, commit); err != nil {
			return nil, &unfitError{err}
		}
	}
	if err := r.checkBindings(name, l); err != nil {
		return nil, err
	}
	if err := r.checkToken(name); err != nil {
		return nil, err
	}
	return &wire.Ref{Ref: name, Old: there.Commit, New: commit.String()}, nil
}

// notWholeError is the error of a commit that the build repository has in part.
func (r *run) notWholeError(ref string, err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return hint.Add(fmt.Errorf("ref %s: %w", ref, err), "%s", unreadableHint)
	}
	return hint.Add(fmt.Errorf("ref %s: %w", ref, err), "%s; pull or commit it again, then push", r.fsckHint())
}

// checkName refuses a ref's name that is none, or that cannot be beside one of the
// server's.
func (r *run) checkName(ref string) error {
	if err := ostree.ValidateRef(ref); err != nil {
		return r.policyError(err)
	}
	if a, b, found := r.conflicting(ref); found {
		e := r.policyError(fmt.Errorf("ref %s cannot be beside ref %s: one is a folder of the other", a, b))
		e.Code = wire.RefConflict
		return e
	}
	return nil
}

// conflicting finds a ref of the server that cannot be beside ref, and says which
// of the two, a, is a folder of the other.
func (r *run) conflicting(ref string) (a, b string, found bool) {
	if below, is := r.serverFolders[ref]; is {
		return ref, below, true
	}
	for i := range len(ref) {
		if _, is := r.serverRefs[ref[:i]]; is && ref[i] == '/' {
			return ref[:i], ref, true
		}
	}
	return "", "", false
}

// foldersOf are the folders that refs are in, each with a ref in it.
func foldersOf(refs map[string]wire.RefState) map[string]string {
	folders := map[string]string{}
	for _, ref := range slices.Sorted(maps.Keys(refs)) {
		for i := range len(ref) {
			if folder := ref[:i]; ref[i] == '/' && folders[folder] == "" {
				folders[folder] = ref
			}
		}
	}
	return folders
}

// checkBindings refuses a commit that is bound to other refs or to another
// collection than the server's.
func (r *run) checkBindings(ref string, l local) error {
	c, err := r.commit(l.commit)
	if err != nil {
		return nil // the walk finds it, and its error says more
	}
	if c.HasRefBindings && !slices.Contains(c.RefBindings, ref) {
		e := r.policyError(fmt.Errorf("ref %s: its commit is bound to refs %q only (ostree.ref-binding)", ref, c.RefBindings))
		e.HintText = r.bindHint(ref, l)
		return e
	}
	if id := r.info.CollectionID; id != "" && c.CollectionID != "" && id != c.CollectionID {
		e := r.policyError(fmt.Errorf("ref %s: its commit is bound to collection %q (ostree.collection-binding), the server's repository is %q", ref, c.CollectionID, id))
		e.HintText = "commit it in a repository with that collection ID (core.collection-id), or push to the server of the other one"
		return e
	}
	return nil
}

// bindHint is how a commit is made that is bound to a ref as well.
func (r *run) bindHint(ref string, l local) string {
	branch, tree := l.name, l.name
	if strings.Contains(branch, ":") { // it was pulled
		branch, tree = ref, l.commit.String()
	}
	return fmt.Sprintf("make a commit that is bound to it as well: ostree commit --repo=%s --branch=%s --tree=ref=%s --bind-ref=%s; or leave it out: name the refs to push with --branch",
		hint.Word(r.opt.Repo), hint.Word(branch), hint.Word(tree), hint.Word(ref))
}

// policyError is the error of a ref that the server would not take.
func (r *run) policyError(err error) *Error {
	return &Error{Exit: ExitRefused, Code: wire.Policy, Err: err, HintText: "leave it out: name the refs to push with --branch"}
}

func (r *run) commit(c ostree.Checksum) (*ostree.Commit, error) {
	b, err := r.repo.Metadata(ostree.Name{Checksum: c, Type: ostree.CommitObject})
	if err != nil {
		return nil, err
	}
	return ostree.ParseCommit(b)
}

// checkMove refuses a move that the server would refuse once all bytes have arrived.
func (r *run) checkMove(ref, old string, commit ostree.Checksum) error {
	if old == "" || r.opt.Force {
		return nil
	}
	from, err := ostree.ParseChecksum(old)
	if err != nil {
		return fmt.Errorf("the server's commit of ref %s: %w", ref, err)
	}
	descends, err := r.repo.IsAncestor(from, commit)
	if err != nil {
		return fmt.Errorf("history of ref %s: %w", ref, err)
	}
	if descends {
		return nil
	}
	return &Error{
		Exit: ExitRefused, Code: wire.NotFastForward,
		Err:      fmt.Errorf("ref %s: not a fast-forward: %s here does not descend from the server's %s", ref, short(commit.String()), short(old)),
		HintText: "rebuild on top of the server's commit, or replace it with --force if your token may",
	}
}

// addsTo reports whether there is anything to send for a commit that the server's
// ref names already.
func (r *run) addsTo(ctx context.Context, commit ostree.Checksum, serverSum string) (bool, error) {
	adds, err := r.addsMeta(ctx, commit, serverSum)
	if adds || err != nil || !r.opt.History {
		return adds, err
	}
	return r.addsHistory(ctx, commit)
}

// addsMeta reports whether the detached metadata here adds anything to that of
// the same commit on the server, whose SHA-256 is serverSum ("" for none).
func (r *run) addsMeta(ctx context.Context, commit ostree.Checksum, serverSum string) (bool, error) {
	ours, err := r.commitMeta(commit)
	if ours == nil || err != nil {
		return false, err
	}
	if sum := sha256.Sum256(ours); hex.EncodeToString(sum[:]) == serverSum {
		return false, nil
	}
	var server []byte
	if serverSum != "" {
		err = r.retrier.Do(ctx, "fetch detached metadata of "+commit.String(), func() (err error) {
			server, err = r.client.CommitMeta(ctx, commit)
			return err
		})
		if err != nil && client.Status(err) != http.StatusNotFound {
			return false, err
		}
	}
	merged, err := ostree.MergeCommitMeta(server, ours)
	if err != nil {
		return false, fmt.Errorf("detached metadata of commit %s: %w", commit, err)
	}
	return !bytes.Equal(merged, server), nil
}

// commitMeta is the detached metadata of a commit here, nil if it has none.
func (r *run) commitMeta(commit ostree.Checksum) ([]byte, error) {
	b, err := r.repo.Metadata(ostree.Name{Checksum: commit, Type: ostree.CommitMeta})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("detached metadata of commit %s: %w", commit, err)
	}
	return b, nil
}

// have is where a walk may stop: the commits of the server's refs.
func (r *run) have() map[ostree.Checksum]bool {
	have := make(map[ostree.Checksum]bool, len(r.serverRefs))
	for _, state := range r.serverRefs {
		if c, err := ostree.ParseChecksum(state.Commit); err == nil {
			have[c] = true
		}
	}
	return have
}

// short is the beginning of a commit's checksum, as people quote it.
func short(commit string) string { return commit[:min(len(commit), 12)] }
