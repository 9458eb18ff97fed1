// SPDX-License-Identifier: AGPL-3.0-or-later

package server

import (
	"context"
	"fmt"

	"github.com/lirios/ostree-upload/internal/fsck"
	"github.com/lirios/ostree-upload/internal/hint"
	"github.com/lirios/ostree-upload/internal/ostree"
)

// CheckContent verifies all objects of the repository, content included, also while a
// server runs. It changes nothing. watch is given its progress as it begins.
func CheckContent(ctx context.Context, opt Options, watch func(*fsck.Progress)) (*Report, error) {
	if opt.Bucket != nil {
		return nil, hint.Add(fmt.Errorf("%s is in an object store: only content on the disk is verified", opt.where()),
			"ostree pull --mirror it, which verifies each object, or let the store check its own checksums")
	}
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
