// SPDX-License-Identifier: AGPL-3.0-or-later

package server

import (
	"context"
	"errors"
	"os"

	"github.com/lirios/ostree-upload/internal/fsck"
	"github.com/lirios/ostree-upload/internal/hint"
	"github.com/lirios/ostree-upload/internal/mirror"
	"github.com/lirios/ostree-upload/internal/ostree"
)

// CheckContent verifies all objects of the repository, content included, also while a
// server runs. It changes nothing. watch is given its progress as it begins.
func CheckContent(ctx context.Context, opt Options, watch func(*fsck.Progress)) (*Report, error) {
	if opt.Bucket != nil {
		return checkBucket(ctx, opt, watch)
	}
	repo, err := ostree.OpenRepo(opt.Repo)
	if err != nil {
		return nil, hint.Add(err, "name the repository with --repo")
	}
	return checkStore(ctx, fsck.New(repo, fsck.OnDisk(repo)), watch)
}

func checkStore(ctx context.Context, c *fsck.Check, watch func(*fsck.Progress)) (r *Report, err error) {
	watch(&c.Progress)
	r = &Report{Used: true}
	r.Findings, r.Notes, err = c.Run(ctx)
	return r, err
}

// checkBucket is CheckContent for a repository in a bucket. What a running server knows of
// that is left alone: a folder of its own has the names of what is there.
func checkBucket(ctx context.Context, opt Options, watch func(*fsck.Progress)) (r *Report, err error) {
	defer func() { err = ownCredentials(err) }()
	if os.Geteuid() == 0 { // others use what credentials they have
		if err := becomeOwner(opt); err != nil {
			return nil, err
		}
	}
	b, err := connect(ctx, opt, nil)
	if err != nil {
		return nil, err
	}
	folder, err := os.MkdirTemp("", "ostree-upload-check-")
	if err != nil {
		return nil, hint.Add(err, "name a folder with space for some 140 bytes for each object: TMPDIR=/var/tmp")
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	direct, err := mirror.OpenDirect(ctx, folder, b, opt.Log)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, direct.Close()) }()
	repo, err := direct.Repo()
	if err != nil {
		return nil, err
	}
	return checkStore(ctx, fsck.New(repo, direct), watch)
}
