// SPDX-License-Identifier: AGPL-3.0-or-later

package server

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lirios/ostree-upload/internal/durable"
	"github.com/lirios/ostree-upload/internal/hint"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/journal"
	"github.com/lirios/ostree-upload/publish"
	"github.com/lirios/ostree-upload/tusstore"
)

// Report is what Check found.
type Report struct {
	Used     bool     // there is a journal: something was received here
	Findings []string // these need an operator
	Notes    []string // these do not: the next start repairs them
}

// Check compares the state folder, the journal and the repository, as the owner
// of the repository and with no server running. It changes nothing, unless it is
// to repair: then it first does what a start of the server does, verifying every
// staged object, and deletes what no session needs.
func Check(ctx context.Context, opt Options, repair bool) (*Report, error) {
	if opt.Bucket != nil {
		r, err := checkUsed(ctx, opt, repair)
		return r, ownCredentials(err)
	}
	if _, err := ostree.OpenRepo(opt.Repo); err != nil && opt.Name != "" {
		return nil, hint.Add(err, "mount it, or put its right path under repositories in the configuration")
	} else if err != nil {
		return nil, hint.Add(err, "name the repository with --repo")
	}
	return checkUsed(ctx, opt, repair)
}

// checkUsed is Check of a repository that is there, or in a bucket.
func checkUsed(ctx context.Context, opt Options, repair bool) (*Report, error) {
	takeUmask(opt.Repo)
	if err := becomeOwner(opt); err != nil {
		return nil, err
	}
	unused := missing(databasePath(opt.State))
	if opt.Bucket != nil {
		if unused {
			return &Report{}, nil
		}
		if err := there(ctx, opt); err != nil {
			return nil, err
		}
	}
	if unused {
		r := &Report{}
		return r, r.addFolders(opt.Repo)
	}
	var done []string
	if repair {
		aside, err := setAsideDamaged(ctx, opt)
		if err != nil {
			return nil, err
		}
		if aside != "" {
			done = append(done, fmt.Sprintf("the damaged journal is %s now; history and sessions are lost, and pushes that were under way have to be repeated", aside))
		}
		if err := repairAll(ctx, opt); err != nil {
			return nil, err
		}
	}
	r, err := inspect(ctx, opt)
	if err == nil {
		r.Notes = append(done, r.Notes...)
	}
	return r, err
}

// addFolders notes the folders that the repository lacks.
func (r *Report) addFolders(repo string) error {
	lacking, err := lackingFolders(repo)
	for _, name := range lacking {
		r.Notes = append(r.Notes, fmt.Sprintf("the repository has no folder %s; the next start makes it", name))
	}
	return err
}

// setAsideDamaged gives a damaged journal another name, so that a new one is made.
// What is staged stays for a while (keepStaged): the pushes that come again find it.
func setAsideDamaged(ctx context.Context, opt Options) (aside string, err error) {
	lock, err := lockRepo(ctx, opt)
	if err != nil {
		return "", err
	}
	defer lock.Close() //nolint:errcheck // nothing was written
	j, err := journal.OpenFile(databasePath(opt.State))
	if err == nil {
		if err = j.Check(); err == nil || !errors.As(err, new(*journal.DamagedError)) {
			return "", j.Close() // what else Check finds, inspect reports
		}
		_ = j.Close() // its error is that of Check
	}
	if !errors.As(err, new(*journal.DamagedError)) {
		return "", err
	}
	return journal.SetAside(databasePath(opt.State), time.Now())
}

// inspect looks at everything and changes nothing.
func inspect(ctx context.Context, opt Options) (r *Report, err error) {
	lock, err := lockRepo(ctx, opt)
	if err != nil {
		return nil, err
	}
	defer lock.Close() //nolint:errcheck // nothing was written
	j, err := journal.OpenFile(databasePath(opt.State))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, j.Close()) }()
	r = &Report{Used: true}
	if err := r.addFolders(opt.Repo); err != nil {
		return nil, err
	}
	if err := j.Check(); err != nil {
		r.Findings = append(r.Findings, err.Error())
	}
	left, err := durable.Temporary(databasePath(opt.State))
	if err != nil {
		return nil, err
	}
	for _, path := range left {
		r.Notes = append(r.Notes, fmt.Sprintf("temporary file %s is left behind; the next start removes it", path))
	}
	repo, m, err := readRepo(ctx, opt)
	if err != nil {
		return nil, err
	}
	if m != nil {
		defer func() { err = errors.Join(err, m.Close()) }()
	}
	if m != nil {
		if err := r.compareNames(ctx, m); err != nil {
			return nil, err
		}
	}
	findings, notes, err := tusstore.Inspect(ctx, tusstore.Config{
		Dir: opt.State, Repo: repo, Journal: j, Workers: runtime.GOMAXPROCS(0),
	})
	if err != nil {
		return nil, err
	}
	r.add(findings, notes)
	of := Server{opt: opt} // which is not running
	findings, notes, err = publish.Inspect(ctx, publish.Config{Repo: opt.Repo, Mirror: m, Journal: j, Summary: of.summary, Keys: of.keys})
	r.add(findings, notes)
	return r, err
}

func (r *Report) add(findings, notes []string) {
	r.Findings, r.Notes = append(r.Findings, findings...), append(r.Notes, notes...)
}

func repairAll(ctx context.Context, opt Options) error {
	opt.Verify = true
	s, err := Open(ctx, opt)
	if err != nil {
		return err
	}
	g, working := errgroup.WithContext(ctx) // one that fails ends the other
	ingest, stop := context.WithCancel(working)
	g.Go(func() error { return s.Store.Run(ingest) })
	g.Go(func() error {
		defer stop()
		return s.Publisher.Finish(working)
	})
	if err = g.Wait(); err == nil {
		_, err = s.cleanStaged(ctx)
	}
	return errors.Join(err, s.Close(err == nil))
}
