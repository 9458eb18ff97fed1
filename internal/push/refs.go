// SPDX-License-Identifier: AGPL-3.0-or-later

package push

import (
	"fmt"
	"strings"

	"github.com/lirios/ostree-upload/internal/hint"
	"github.com/lirios/ostree-upload/internal/ostree"
)

// noRefsError is the error of a repository without local refs.
func (r *run) noRefsError() error {
	pulled, err := r.repo.PulledRefs()
	if err != nil {
		return err
	}
	if len(pulled) == 0 {
		return hint.Add(fmt.Errorf("repository %s has no refs", r.opt.Repo),
			"commit something first: ostree commit --repo=%s --branch=REF FOLDER", quoted(r.opt.Repo))
	}
	err = fmt.Errorf("repository %s has no refs of its own, only refs that were pulled: %s", r.opt.Repo, names(pulled))
	return hint.Add(err, "%s", r.createHint(pulled[0]))
}

// noRefError is the error of a ref that was named and is not a local one.
func (r *run) noRefError(name string) error {
	pulled, err := r.repo.PulledRefs()
	if err != nil {
		return err
	}
	for _, p := range pulled {
		if name == p.String() || name == p.Ref {
			return hint.Add(fmt.Errorf("%s is a ref that repository %s pulled (refs/%s), and only refs of its own can be pushed", p, r.opt.Repo, p.Folder), "%s", r.createHint(p))
		}
	}
	return hint.Add(fmt.Errorf("repository %s has no ref %s", r.opt.Repo, name),
		"see which there are: ostree refs --repo=%s", quoted(r.opt.Repo))
}

// createHint is how a pulled ref becomes one that can be pushed.
func (r *run) createHint(p ostree.PulledRef) string {
	from := p.String()
	if p.Folder == ostree.Mirrors { // the ostree command does not take its name there
		from = p.Commit.String()
	}
	return fmt.Sprintf("make it a ref of this repository, then push: ostree refs --repo=%s --create=%s %s", quoted(r.opt.Repo), quoted(p.Ref), quoted(from))
}

// names lists the first few pulled refs.
func names(refs []ostree.PulledRef) string {
	var list []string
	for i, p := range refs {
		if i == maxNamed {
			list = append(list, "…")
			break
		}
		list = append(list, p.String())
	}
	return strings.Join(list, ", ")
}
