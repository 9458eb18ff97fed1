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

	"github.com/lirios/ostree-upload/internal/client"
	"github.com/lirios/ostree-upload/internal/hint"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
)

// localRefs returns the refs to push: those asked for, or all but aliases.
func (r *run) localRefs() (map[string]ostree.Checksum, error) {
	if len(r.opt.Refs) == 0 {
		return r.allRefs()
	}
	refs := make(map[string]ostree.Checksum, len(r.opt.Refs))
	for _, name := range r.opt.Refs {
		if target, is, err := r.repo.Alias(name); err != nil {
			return nil, err
		} else if is {
			return nil, &Error{Exit: ExitRefused, Code: wire.Policy,
				Err:      fmt.Errorf("ref %s is an alias of %s here, and would be a ref of its own on the server", name, target),
				HintText: "push " + target + ", and make the alias on the server: ostree refs --alias"}
		}
		commit, err := r.repo.Ref(name)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, hint.Add(fmt.Errorf("repository %s has no ref %s", r.opt.Repo, name),
				"see which there are: ostree refs --repo=%s", quoted(r.opt.Repo))
		}
		if err != nil {
			return nil, fmt.Errorf("ref %s: %w", name, err)
		}
		refs[name] = commit
	}
	return refs, nil
}

// allRefs returns all refs but aliases, which would be refs of their own on the
// server.
func (r *run) allRefs() (map[string]ostree.Checksum, error) {
	refs, err := r.repo.Refs()
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(refs)) {
		target, is, err := r.repo.Alias(name)
		if err != nil {
			return nil, err
		}
		if is {
			delete(refs, name)
			r.opt.Log.Warn("leaving out an alias, which would be a ref of its own on the server", "ref", name, "target", target)
		}
	}
	if len(refs) == 0 {
		return nil, hint.Add(fmt.Errorf("repository %s has no refs", r.opt.Repo),
			"commit something first: ostree commit --repo=%s --branch=REF FOLDER", quoted(r.opt.Repo))
	}
	return refs, nil
}

// plan compares the local refs with the server's and returns the moves that are
// left to make, in the order of their names.
func (r *run) plan(ctx context.Context, local map[string]ostree.Checksum) ([]wire.Ref, error) {
	var moves []wire.Ref
	for _, name := range slices.Sorted(maps.Keys(local)) {
		commit, there := local[name], r.serverRefs[name]
		if err := r.repo.CheckWhole(commit); err != nil {
			return nil, r.notWholeError(name, err)
		}
		if there.Commit == commit.String() {
			adds, err := r.addsMeta(ctx, commit, there.CommitMeta)
			if err != nil {
				return nil, err
			}
			if !adds {
				continue
			}
		} else if err := r.checkMove(name, there.Commit, commit); err != nil {
			return nil, err
		}
		if err := r.checkName(name, commit); err != nil {
			return nil, err
		}
		moves = append(moves, wire.Ref{Ref: name, Old: there.Commit, New: commit.String()})
	}
	return moves, nil
}

// notWholeError is the error of a commit that the build repository has in part.
func (r *run) notWholeError(ref string, err error) error {
	return hint.Add(fmt.Errorf("ref %s: %w", ref, err), "%s; pull or commit it again, then push", r.fsckHint())
}

// checkName refuses a ref name, or a commit that is bound to other refs, which the
// server would refuse once all bytes have arrived.
func (r *run) checkName(ref string, commit ostree.Checksum) error {
	err := ostree.ValidateRef(ref)
	if err == nil {
		if bound, any := r.bindings(commit); any && !slices.Contains(bound, ref) {
			err = fmt.Errorf("ref %s: its commit is bound to refs %q only (ostree.ref-binding)", ref, bound)
		}
	}
	if err == nil {
		return nil
	}
	return &Error{Exit: ExitRefused, Code: wire.Policy, Err: err, HintText: "leave it out: name the refs to push with --branch"}
}

// bindings are the refs that a commit is bound to, if any. A commit that cannot
// be read has none here: the walk finds it and its error says more.
func (r *run) bindings(commit ostree.Checksum) (refs []string, any bool) {
	b, err := r.repo.Metadata(ostree.Name{Checksum: commit, Type: ostree.CommitObject})
	if err != nil {
		return nil, false
	}
	c, err := ostree.ParseCommit(b)
	if err != nil {
		return nil, false
	}
	return c.RefBindings, c.HasRefBindings
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
