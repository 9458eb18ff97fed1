// SPDX-License-Identifier: AGPL-3.0-or-later

package push

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
)

// Defaults of Options.
const (
	DefaultJobs     = 4
	DefaultChunk    = wire.PackTarget
	DefaultRetryFor = 15 * time.Minute
)

// Options say what to push where, and how.
type Options struct {
	Repo           string
	Address, Token string
	Refs           []string // none: all refs of the repository
	Resume         string   // a session's ID; then Refs does not matter
	Depth          int      // parents to send of each commit; -1: all that the server lacks
	Force, DryRun  bool
	Jobs           int   // uploads at once; 0: DefaultJobs
	ChunkSize      int64 // most bytes of one request; 0: DefaultChunk

	RetryFor     time.Duration // without progress, before giving up; 0: at the first failure
	FirstContact time.Duration // the same until the server has answered once; 0: RetryFor

	Log      *slog.Logger // nil: none
	Progress *Progress    // nil: own
	// Program and Resuming are the first word and the last ones of the command
	// that resumes the push: how it was called, and the flags to call it with.
	Program  string
	Resuming []string

	OnSession func(s wire.Session, resumed bool) // called as soon as there is a session, and if another takes its place
}

// A run is one push.
type run struct {
	*sender
	opt    Options
	repo   *ostree.Repo
	theirs map[string]wire.RefState
	result *Result

	announced  bool
	left       string    // the session that another took the place of
	lastByte   time.Time // when the last upload was done; zero if there was none
	packPrefix string    // makes pack names differ from those of earlier runs
	packs      atomic.Int64
}

// Run pushes. The error is an *Error; the Result says how far it came even then,
// and is nil only if the options are no good.
func Run(ctx context.Context, opt Options) (*Result, error) {
	start := time.Now()
	r, err := newRun(opt)
	if err != nil {
		e := ended(ctx, err, "")
		return e.Result(), e
	}
	defer r.sender.client.Close()
	err = r.unreadable(ostree.Name{}, r.push(ctx))
	r.progress.copyTo(r.result)
	r.result.Seconds.Total = since(start)
	if err == nil {
		return r.result, nil
	}
	e := ended(ctx, err, r.resumeCommand())
	r.result.Error, r.result.ErrorCode, r.result.ExitCode = e.Error(), e.Code, e.Exit
	r.result.ResumeWith = r.resumeCommand()
	return r.result, e
}

func newRun(opt Options) (*run, error) {
	opt.fill()
	client, err := NewClient(opt.Address, opt.Token)
	if err != nil {
		return nil, err
	}
	repo, err := ostree.OpenRepo(opt.Repo)
	if err != nil {
		return nil, err
	}
	s := &sender{
		client:   client,
		patience: newPatience(opt.RetryFor, opt.FirstContact, &opt.Progress.Retries, opt.Log),
		progress: opt.Progress,
		pace:     newPace(opt.ChunkSize),
	}
	return &run{
		sender: s, opt: opt, repo: repo, result: &Result{Refs: []wire.Ref{}, DryRun: opt.DryRun},
		packPrefix: strings.ToLower(rand.Text()[:6]),
	}, nil
}

func (o *Options) fill() {
	if o.Jobs <= 0 {
		o.Jobs = DefaultJobs
	}
	if o.ChunkSize <= 0 {
		o.ChunkSize = DefaultChunk
	}
	if o.FirstContact == 0 {
		o.FirstContact = o.RetryFor
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Progress == nil {
		o.Progress = new(Progress)
	}
}

// push does the work of Run.
func (r *run) push(ctx context.Context) error {
	var local map[string]ostree.Checksum
	if r.opt.Resume == "" {
		var err error
		if local, err = r.localRefs(); err != nil {
			return err
		}
	}
	if err := r.meet(ctx); err != nil {
		return err
	}
	if r.opt.Resume != "" {
		if err := r.take(ctx, r.opt.Resume); err != nil {
			return err
		}
		return r.publish(ctx)
	}
	moves, err := r.plan(ctx, local)
	if err != nil {
		return err
	}
	r.result.Refs = moves
	if len(moves) == 0 {
		r.result.NothingToDo = true
		return nil
	}
	if r.opt.DryRun {
		return r.count(ctx)
	}
	if err := r.begin(ctx, wire.OpenRequest{Refs: moves, Force: r.opt.Force}, time.Time{}); err != nil {
		return err
	}
	err = r.publish(ctx)
	if !r.overtaken(ctx, moves, err) {
		return err
	}
	r.result.Session, r.result.Refs, r.result.Resumed = wire.Session{}, nil, false
	return r.push(ctx)
}

// overtaken tells whether a session failed because its refs had moved to what it
// was to publish: an earlier session for the same was still publishing when we
// asked for the refs, and over when we looked for it.
func (r *run) overtaken(ctx context.Context, moves []wire.Ref, err error) bool {
	var failed *Error
	if !errors.As(err, &failed) || failed.Code != wire.RefMoved || r.meet(ctx) != nil {
		return false
	}
	for _, m := range moves {
		if r.theirs[m.Ref].Commit != m.New {
			return false
		}
	}
	return true
}

// meet asks the server for its refs: the first contact.
func (r *run) meet(ctx context.Context) error {
	return r.patience.call(ctx, "reach "+r.client.Address(), func() (err error) {
		r.theirs, err = r.client.Refs(ctx)
		return err
	})
}

// objects is the source of all that the session's commits need beyond have, and
// of their detached metadata even if the commits themselves are in have.
func (r *run) objects(have map[ostree.Checksum]bool) (source, error) {
	var commits []ostree.Checksum
	olds := map[ostree.Checksum]bool{} // the server refuses a gap between these and ours
	for _, ref := range r.result.Refs {
		c, err := ostree.ParseChecksum(ref.New)
		if err != nil {
			return nil, fmt.Errorf("ref %s: %w", ref.Ref, err)
		}
		commits = append(commits, c)
		if old, err := ostree.ParseChecksum(ref.Old); err == nil {
			olds[old] = true
		}
	}
	return func(ctx context.Context, visit func(ostree.Name) error) error {
		opt := ostree.WalkOptions{Have: have, Depth: r.opt.Depth, Reach: olds}
		return r.repo.Walk(ctx, commits, opt, visit)
	}, nil
}

// count is a dry run: it walks and adds up.
func (r *run) count(ctx context.Context) error {
	walk, err := r.objects(r.have())
	if err != nil {
		return err
	}
	start := time.Now()
	err = walk(ctx, func(n ostree.Name) error {
		o, err := r.repo.Object(ctx, n)
		if err != nil {
			return r.unreadable(n, err)
		}
		r.progress.Walked.Add(1)
		r.result.BytesWalked += o.Size
		return nil
	})
	r.result.Seconds.Walk = since(start)
	if err == nil {
		err = ctx.Err() // a signal counts, also if it came at the very end
	}
	return err
}

// resumeCommand is the command that goes on with this push, "" before there is
// a session.
func (r *run) resumeCommand() string {
	switch r.result.Session.State {
	case wire.Open, wire.Verifying, wire.Publishing:
	default:
		return ""
	}
	words := append([]string{cmp.Or(r.opt.Program, "ostree-upload"), "push", "--repo", r.opt.Repo,
		"--address", r.client.Address(), "--resume", r.result.Session.ID}, r.opt.Resuming...)
	for i, w := range words {
		words[i] = quoted(w)
	}
	return strings.Join(words, " ")
}

// quoted is s as a shell takes it for one word.
func quoted(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-:=+@%") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
