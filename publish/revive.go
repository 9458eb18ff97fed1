// SPDX-License-Identifier: AGPL-3.0-or-later

package publish

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/lirios/ostree-upload/internal/ostree"
)

// reviveTime is how long a repair looks at other commits than its own.
const reviveTime = time.Minute

// foundByFsck is what a mark of an incomplete commit has in it that ostree fsck made,
// as it found objects missing. It never takes the mark away.
const foundByFsck = "f"

// reviveOthers takes away the marks that ostree fsck has put on commits which are whole
// again: what the repair brought, other commits may have lacked as well. What goes wrong
// is no reason to hold up the session.
func (a *apply) reviveOthers(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, reviveTime)
	defer cancel()
	marks, err := filepath.Glob(filepath.Join(a.view.repo.Path(), "state", "*.commitpartial"))
	for _, mark := range marks {
		err = errors.Join(err, a.reviveOther(ctx, mark))
	}
	if err != nil {
		a.warn("not all commits that ostree fsck has marked as incomplete could be looked at: %v", err)
	}
}

// reviveOther does so for one.
func (a *apply) reviveOther(ctx context.Context, mark string) error {
	b, err := os.ReadFile(mark)
	if err != nil || string(b) != foundByFsck {
		return err
	}
	commit, err := ostree.ParseChecksum(strings.TrimSuffix(filepath.Base(mark), ".commitpartial"))
	if err != nil {
		return err
	}
	repo := a.view.repo
	c := newClosure(&view{staged: repo, repo: repo}, func(_ context.Context, n ostree.Name) (bool, error) { return repo.Has(n) })
	err = c.walk(ctx, commit)
	if unfit := new(Outcome); errors.As(err, &unfit) || err == nil && len(c.missing) > 0 {
		return nil
	}
	if err != nil {
		return err
	}
	return a.target.revive(ctx, commit)
}
