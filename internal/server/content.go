// SPDX-License-Identifier: AGPL-3.0-or-later

package server

import (
	"context"

	"github.com/lirios/ostree-upload/internal/fsck"
	"github.com/lirios/ostree-upload/internal/hint"
	"github.com/lirios/ostree-upload/internal/ostree"
)

// CheckContent verifies all objects of the repository, content included, also while a
// server runs. It changes nothing. watch is given its progress as it begins.
func CheckContent(ctx context.Context, opt Options, watch func(*fsck.Progress)) (*Report, error) {
	repo, err := ostree.OpenRepo(opt.Repo)
	if err != nil {
		return nil, hint.Add(err, "name the repository with --repo")
	}
	c := fsck.New(repo)
	watch(&c.Progress)
	r := &Report{Used: true}
	r.Findings, r.Notes, err = c.Run(ctx)
	return r, err
}
