// SPDX-License-Identifier: AGPL-3.0-or-later

package push

import (
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
func (r *run) objectError(name ostree.Name, err error) error {
	if explained := r.explain(err); hint.Of(explained) != "" {
		return explained
	}
	return fmt.Errorf("object %s of the build repository: %w", name, err)
}

// explain says what to do about an error if the build repository is at fault.
func (r *run) explain(err error) error {
	var bad *ostree.BadObjectError
	switch {
	case errors.As(err, &bad):
		return r.damagedError(bad.Object, bad.Reason)
	case errors.Is(err, fs.ErrNotExist) && hint.Of(err) == "": // the error names what is absent
		return hint.Add(err, "%s", r.prunedHint())
	}
	return err
}

// damagedError is the error of an object that is damaged in the build repository.
func (r *run) damagedError(n ostree.Name, reason string) error {
	return &Error{
		Exit: ExitFailed, Code: wire.BadObjects,
		Err:      fmt.Errorf("object %s in the build repository is damaged: %s", n, reason),
		HintText: r.fsckHint(),
	}
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

// fsckHint is the next step when the build repository is at fault.
func (r *run) fsckHint() string {
	return "check it with: ostree fsck --repo=" + quoted(r.opt.Repo)
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
