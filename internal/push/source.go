// SPDX-License-Identifier: AGPL-3.0-or-later

package push

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/lirios/ostree-upload/internal/hint"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
)

// maxNamed is how many objects an error names; the session has more.
const maxNamed = 3

// objectError is the error of an object that could not be read from the build
// repository.
func (r *run) objectError(ctx context.Context, name ostree.Name, err error) error {
	if explained := r.explain(ctx, err); hint.Of(explained) != "" {
		return explained
	}
	return fmt.Errorf("object %s of the build repository: %w", name, err)
}

// explain says what to do about an error if the build repository is at fault.
func (r *run) explain(ctx context.Context, err error) error {
	var bad *ostree.BadObjectError
	var limit *ostree.LimitError
	var closed *ostree.UnreadableError
	switch {
	case errors.As(err, &bad):
		return r.damagedError(ctx, bad.Object, bad.Reason)
	case errors.As(err, &limit):
		return &Error{
			Exit: ExitRefused, Code: wire.TooLarge, Err: fmt.Errorf("%s: %s", r.describe(ctx, limit.Object), limit.Reason),
			HintText: "no server takes it: leave it out of the commit",
		}
	case errors.As(err, &closed):
		return &Error{
			Exit: ExitFailed, Code: wire.BadObjects, Err: fmt.Errorf("cannot read %s: %s", r.describe(ctx, closed.Object), closed.Reason),
			HintText: "push as root, who can read everything in a repository of mode " + r.repo.Mode() + ", or push from a repository of mode archive",
		}
	case errors.Is(err, fs.ErrNotExist) && hint.Of(err) == "": // the error names what is absent
		return hint.Add(err, "%s", r.prunedHint())
	}
	return err
}

// damagedError is the error of an object that is damaged in the build repository.
func (r *run) damagedError(ctx context.Context, n ostree.Name, reason string) error {
	e := &Error{
		Exit: ExitFailed, Code: wire.BadObjects,
		Err:      fmt.Errorf("%s in the build repository is damaged: %s", r.describe(ctx, n), reason),
		HintText: r.fsckHint(),
	}
	if r.repo.Mode() == ostree.ModeBareUserOnly {
		e.HintText += "; if it was pulled, push from the repository that it comes from, or commit with --canonical-permissions"
	}
	return e
}

// maxSearched is how many commits of a ref describe looks into.
const maxSearched = 20

// describe names an object as people know it: by its path in the tree of a ref, if
// it is in one.
func (r *run) describe(ctx context.Context, n ostree.Name) string {
	for _, ref := range r.refs {
		if where := r.within(ctx, ref, n); where != "" {
			return fmt.Sprintf("%s of ref %s (object %s)", where, ref.Ref, n)
		}
	}
	return "object " + n.String()
}

// within is where an object is in the commits of a ref, newest first, that the
// server may lack; "" if it is in none of them.
func (r *run) within(ctx context.Context, ref wire.Ref, n ostree.Name) string {
	commit, err := ostree.ParseChecksum(ref.New)
	for range maxSearched {
		switch {
		case err != nil:
			return ""
		case commit == n.Checksum && n.Type == ostree.CommitObject:
			return "a commit"
		case commit == n.Checksum:
			return "the detached metadata of a commit"
		}
		if path := r.repo.Paths(ctx, commit, n)[n]; path != "" {
			return path
		}
		parent, failed := r.repo.Parent(commit)
		if failed != nil || parent == nil || parent.String() == ref.Old {
			return ""
		}
		commit = *parent
	}
	return ""
}

// prunedHint is the next step when an object is gone that a commit names.
func (r *run) prunedHint() string {
	again := r.resumeCommand()
	if again == "" {
		again = "push again"
	}
	return "the build repository was pruned or changed during the push, or was incomplete before; " + r.fsckHint() +
		"; commit or pull again what is missing, then: " + again
}

// unreadableHint is the next step when the build repository has files that this user
// may not read.
const unreadableHint = "push as a user who can read the whole build repository, such as its owner"

// fsckHint is the next step when the build repository is at fault.
func (r *run) fsckHint() string {
	return "check it with: ostree fsck --repo=" + hint.Word(r.opt.Repo)
}

// firstFew names the first few objects.
func firstFew(objects []ostree.Name) string {
	var b strings.Builder
	for i, n := range objects[:min(len(objects), maxNamed)] {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(n.String())
	}
	if len(objects) > maxNamed {
		b.WriteString(", …")
	}
	return b.String()
}
