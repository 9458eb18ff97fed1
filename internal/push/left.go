// SPDX-License-Identifier: AGPL-3.0-or-later

package push

import (
	"errors"
	"fmt"
	"strings"
)

// unfitError is why one ref cannot be pushed, whatever the others are.
type unfitError struct{ error }

func (e *unfitError) Unwrap() error { return e.error }

// mayLeave tells whether a push can go on without the ref of an error: it was not
// named, and the error is the ref's own.
func (r *run) mayLeave(err error) bool {
	if len(r.opt.Refs) > 0 || r.opt.Resume != "" {
		return false
	}
	var unfit *unfitError
	var refused *Error
	return errors.As(err, &unfit) || errors.As(err, &refused) && refused.Exit == ExitRefused
}

// leave notes a ref that is left out because of err. It returns err if the push
// cannot go on without the ref.
func (r *run) leave(ref string, err error) error {
	if !r.mayLeave(err) {
		return err
	}
	r.left = append(r.left, Left{Ref: ref, Reason: err.Error()})
	return nil
}

// maxLeftNamed is how many refs that were left out the error names.
const maxLeftNamed = 50

// leftError is the error of a push that left refs out and did the rest.
func (r *run) leftError() error {
	if len(r.left) == 0 || r.opt.SkipUnfit {
		return nil
	}
	return &Error{
		Exit: ExitRefused, Code: RefsLeft, Err: errors.New(LeftOut(r.left)),
		HintText: "name the refs to push with --branch, or give --skip-unfit, to leave these out on purpose",
	}
}

// LeftOut says which refs were left out, and why.
func LeftOut(left []Left) string {
	var reasons []string
	for i, l := range left {
		if i == maxLeftNamed {
			reasons = append(reasons, fmt.Sprintf("and %d others, which --json lists", len(left)-i))
			break
		}
		reason := l.Reason
		if !strings.Contains(reason, l.Ref) {
			reason = "ref " + l.Ref + ": " + reason
		}
		reasons = append(reasons, reason)
	}
	return fmt.Sprintf("left out %d of the refs: %s", len(left), strings.Join(reasons, "; "))
}
