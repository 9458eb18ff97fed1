// SPDX-License-Identifier: AGPL-3.0-or-later

package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/lirios/ostree-upload/internal/bucket"
	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/durable"
	"github.com/lirios/ostree-upload/internal/hint"
	"github.com/lirios/ostree-upload/internal/mirror"
	"github.com/lirios/ostree-upload/internal/ostree"
)

// makeRepo makes the repository, unless there is one.
func makeRepo(ctx context.Context, opt Options) error {
	if opt.Bucket == nil {
		return initRepo(opt.Repo)
	}
	b, err := connect(ctx, opt, nil)
	if err == nil {
		err = mirror.Init(ctx, b)
	}
	if err != nil {
		return fmt.Errorf("--init: %w", err)
	}
	return nil
}

// At has the options be those of a repository of the configuration.
func (opt *Options) At(r *config.Repository) {
	opt.Name, opt.Repo, opt.State, opt.Bucket = r.Name, FolderOf(r), r.StateFolder(), nil
	if b, is := r.InBucket(); is {
		opt.Bucket = &bucket.Config{Bucket: b.Name, Prefix: b.Prefix, Endpoint: b.Endpoint, PathStyle: b.PathStyle}
	}
}

// FolderOf is a repository's folder on the disk, or that of its mirror.
func FolderOf(r *config.Repository) string {
	if _, is := r.InBucket(); is {
		return mirror.Folder(r.StateFolder())
	}
	return r.Repo
}

// where is the repository as people name it.
func (opt *Options) where() string {
	if opt.Bucket != nil {
		return strings.TrimSuffix("s3://"+opt.Bucket.Bucket+"/"+opt.Bucket.Prefix, "/")
	}
	return opt.Repo
}

// connect makes the client of the bucket. count is told of its requests; nil: nobody is.
func connect(ctx context.Context, opt Options, count func(request, outcome string)) (*bucket.Bucket, error) {
	cfg := *opt.Bucket
	cfg.Log, cfg.Count = opt.Log, count
	return bucket.Open(ctx, cfg)
}

// startPatience is how long a start waits for the bucket's configuration, and how long for
// its probe, if the store answered an earlier start. Each start that waits says so after a third of it.
const startPatience = 30 * time.Second

// prepareMirror probes the bucket and reads its configuration. A store that does not
// answer is no reason not to start, if it did at an earlier start: pushes are staged
// meanwhile. What the probe found is in the options from then on.
func prepareMirror(ctx context.Context, opt *Options) error {
	b, err := connect(ctx, *opt, nil)
	if err != nil {
		return err
	}
	if err := durable.MakeFolder(opt.State, 0o700); err != nil {
		return fmt.Errorf("make the state folder: %w", err)
	}
	patience := cmp.Or(opt.patience, startPatience)
	slow := time.AfterFunc(patience/3, func() { opt.Log.Warn("the object store has not answered yet", "repo", b.String()) })
	defer slow.Stop()
	if _, err := os.Stat(filepath.Join(opt.Repo, "config")); err != nil {
		patience = math.MaxInt64 // it takes an answer
	}
	if err := within(ctx, patience, func(ctx context.Context) error { return mirror.ReadConfig(ctx, opt.Repo, b, opt.Log) }); err != nil {
		return err
	}
	err = within(ctx, patience, b.Probe)
	found := *opt.Bucket
	found.DeletesByMatch = b.DeletesByMatch()
	opt.Bucket = &found
	if bucket.Temporary(err) {
		opt.Log.Warn("the object store does not answer; what is pushed waits for it", "repo", b.String(), "err", err)
		return nil
	}
	return err
}

func within(ctx context.Context, d time.Duration, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	return do(ctx)
}

// openMirror opens what this server knows of the repository, as the one that has its lock.
func (s *Server) openMirror(ctx context.Context) (err error) {
	var count func(request, outcome string)
	if s.metrics != nil {
		count = s.metrics.StoreRequest
	}
	b, err := connect(ctx, s.opt, count)
	if err != nil {
		return err
	}
	if s.mirror, err = mirror.Open(ctx, s.opt.Repo, b, s.opt.Log); err != nil {
		return err
	}
	s.repo, err = s.mirror.Lenient()
	return err
}

// there has the folder of the mirror be there, which the server makes at its first start.
func there(ctx context.Context, opt Options) error {
	if _, err := ostree.OpenRepo(opt.Repo); err == nil {
		return nil
	}
	b, err := connect(ctx, opt, nil)
	if err != nil {
		return err
	}
	return mirror.ReadConfig(ctx, opt.Repo, b, opt.Log)
}

// ownCredentials says to the operator of a command that it needs what the server was given.
func ownCredentials(err error) error {
	if !bucket.Unset(err) {
		return err
	}
	return hint.Add(err, "this command asks the store itself, so give it the credentials that the server has: "+
		"those of a systemd unit are in the file that `systemctl show -p EnvironmentFiles ostree-upload` names, and for a shell: set -a; . /etc/ostree-upload/environment; set +a")
}

// readRepo opens the repository for somebody who changes nothing. The mirror is nil if it
// is on the disk; else the caller closes it.
func readRepo(ctx context.Context, opt Options) (*ostree.Repo, *mirror.Mirror, error) {
	if opt.Bucket == nil {
		repo, err := ostree.OpenRepo(opt.Repo)
		return repo, nil, err
	}
	s := Server{opt: opt}
	err := s.openMirror(ctx)
	return s.repo, s.mirror, err
}

// compareNames compares what the server knows of the bucket with what that has, which it
// knows then. That others have written and pruned there is no fault; whether a ref lacks
// what is gone is looked at next.
func (r *Report) compareNames(ctx context.Context, m *mirror.Mirror) error {
	gone, unknown, err := m.Compare(ctx)
	switch {
	case len(gone) == 1:
		r.Notes = append(r.Notes, fmt.Sprintf("object %s is gone from the bucket, as others prune there; if a ref needed it, that would be a finding", gone[0]))
	case len(gone) > 1:
		r.Notes = append(r.Notes, fmt.Sprintf("%d objects are gone from the bucket, such as %s, as others prune there; if a ref needed one of them, that would be a finding", len(gone), gone[0]))
	}
	if unknown > 0 {
		r.Notes = append(r.Notes, fmt.Sprintf("objects of the bucket that were not known here, as others have written them: %d", unknown))
	}
	return err
}

// fitsBucket tells what a configuration asks for that takes a repository on the disk.
func fitsBucket(r *config.Repository) error {
	if _, is := r.InBucket(); !is {
		return nil
	}
	var errs []error
	if r.CheckCommand != nil {
		errs = append(errs, hint.Add(fmt.Errorf("check-command: its program reads the repository from the disk, and %s is in a bucket", r.Repo), "take it out, or have the repository on the disk"))
	}
	for _, a := range r.After {
		if a.Kind != config.AfterCommand {
			errs = append(errs, hint.Add(fmt.Errorf("after: %s needs the repository on the disk, and %s is in a bucket", a.Kind, r.Repo), "take it out, or have the repository on the disk"))
		}
	}
	return errors.Join(errs...)
}
