// SPDX-License-Identifier: AGPL-3.0-or-later

package push

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"github.com/lirios/ostree-upload/internal/client"
	"github.com/lirios/ostree-upload/internal/hint"
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
	Repo          string
	Server        client.Options
	Refs          []string // REF, LOCAL:REMOTE, FROM:REF or FROM:REF:REMOTE; none: all local refs
	SkipUnfit     bool     // those that a push of all refs leaves out are no error
	Resume        string   // a session's ID; then Refs does not matter
	Depth         int      // parents to send of each commit; -1: down to what the server's refs name
	History       bool     // go on behind what the server's refs name; Depth is -1 then
	Force, DryRun bool
	Repair        bool   // have the server verify what it has of the commits, and take again what is damaged or gone
	FollowAlias   bool   // push to the ref that an alias of the server stands for
	WaitAfter     bool   // wait for what follows the publish
	TakeOver      bool   // take the place of a push that sends for the same session
	Hold          bool   // the session is held, for somebody else to publish
	Jobs          int    // uploads at once; 0: DefaultJobs
	Encoding      string // archive, zstd, delta or Auto; "": Auto
	Encoders      int    // that work ahead at once; 0: as many as there are processors
	ChunkSize     int64  // most bytes of one request; 0: DefaultChunk

	RetryFor     time.Duration // without progress, before giving up; 0: at the first failure
	FirstContact time.Duration // the same until the server has answered once; 0: RetryFor

	Log      *slog.Logger // nil: none
	Progress *Progress    // nil: own
	// Program and Resuming are the first word and the last words of the command
	// that resumes the push: the program as it was called, and flags to repeat.
	Program  string
	Resuming []string
	// AddressStays leaves the address out of that command, which finds it elsewhere.
	AddressStays bool

	OnSession func(s wire.Session, resumed bool) // called when there is a session, and again when another replaces it

	glance time.Duration // 0: glance; a test gives more, for a processor that others take from its rivals
}

// A run is one push. The stages of a pipeline write only what is theirs.
type run struct {
	opt      Options
	repo     *ostree.Repo
	client   *client.Client
	retrier  *client.Retrier
	uploader *client.Uploader
	progress *Progress

	info          wire.Info // what the server told of itself; empty if it tells nothing
	serverRefs    map[string]wire.RefState
	serverFolders map[string]string // of serverRefs, each with a ref in it
	done, later   []wire.Ref        // published in earlier sessions, and left to later ones
	sessions      []string          // IDs of all sessions, if there were several
	refs          []wire.Ref        // that are to move in the present one
	left          []Left            // refs that a push of all refs leaves out
	nothingToDo   bool
	locals        map[string]local // what was asked for, by the name of the server's ref
	finished      bool             // all of them are on the server, by this push or an earlier one
	olderAbsent   int64            // older commits here that the server lacks, if there is nothing to do
	bytesWalked   int64
	seconds       Seconds

	session   wire.Session // as the server described it last; no ID before there is one
	resumed   bool
	announced bool
	replaced  string                 // ID of the session that the present one took the place of
	rounds    int                    // times that objects were sent again
	rejected  map[ostree.Name]string // why, as the server said at the last round
	lastByte  time.Time              // when the last upload was done; zero if there was none

	metas      int64  // detached metadata that the walk of the present session found
	absent     int64  // objects that the server took in repairs, but detached metadata
	packPrefix string // makes pack names differ from those of earlier runs
	packs      atomic.Int64
}

// Run pushes. The error is an *Error; the Result says how far it came even then.
func Run(ctx context.Context, opt Options) (*Result, error) {
	start := time.Now()
	r, err := newRun(opt)
	if err != nil {
		e := ended(ctx, err, "")
		return e.Result(), e
	}
	defer r.client.Close()
	r.opt.Log.Debug("the requests have an ID, which the server's log has, too", "request", r.client.RequestID())
	err = r.explainToken(r.explainLost(r.explain(ctx, r.push(ctx))))
	if err == nil {
		r.finished = !opt.DryRun
		err = r.follow(ctx)
	}
	if err == nil {
		err = r.leftError()
	}
	r.seconds.Total = since(start)
	if err == nil {
		return r.result(nil), nil
	}
	e := ended(ctx, err, r.resumeCommand())
	if e.Request = client.RequestOf(err); e.Request == "" && r.client.Reached() {
		e.Request = r.client.RequestID()
	}
	return r.result(e), e
}

func newRun(opt Options) (*run, error) {
	opt.fill()
	c, err := client.Open(opt.Server)
	if err != nil {
		return nil, err
	}
	repo, err := ostree.OpenRepo(opt.Repo)
	if errors.Is(err, fs.ErrPermission) {
		err = hint.Add(err, "%s", unreadableHint)
	} else if errors.Is(err, ostree.ErrNoRepo) {
		err = hint.Add(err, "name the build repository with --repo")
	}
	if err != nil {
		return nil, err
	}
	traffic := &opt.Progress.Traffic
	retrier := client.NewRetrier(opt.RetryFor, opt.FirstContact, &traffic.Retries, opt.Log)
	r := &run{
		opt: opt, repo: repo, client: c, retrier: retrier, progress: opt.Progress,
		uploader:   client.NewUploader(c, retrier, traffic, opt.ChunkSize),
		refs:       []wire.Ref{},
		packPrefix: strings.ToLower(rand.Text()[:6]),
	}
	r.uploader.CheckRival, r.uploader.QuietTime = r.checkRival, glance
	return r, nil
}

func (o *Options) fill() {
	if o.Jobs <= 0 {
		o.Jobs = DefaultJobs
	}
	if o.Encoders <= 0 {
		o.Encoders = runtime.GOMAXPROCS(0)
	}
	o.Encoding = cmp.Or(o.Encoding, Auto)
	if o.ChunkSize <= 0 {
		o.ChunkSize = DefaultChunk
	}
	o.fitRate()
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
	var locals map[string]local
	if r.opt.Resume == "" {
		var err error
		if locals, err = r.localRefs(); err != nil {
			return err
		}
	}
	if err := r.fetchRefs(ctx); err != nil {
		return err
	}
	if err := r.fetchInfo(ctx); err != nil {
		return err
	}
	if r.opt.Resume != "" {
		if err := r.resume(ctx, r.opt.Resume); err != nil {
			return err
		}
		if r.session.State == wire.Open {
			if err := r.survey(ctx, r.refs, r.have()); err != nil {
				return err
			}
		}
		return r.publish(ctx)
	}
	if err := cmp.Or(r.checkRepair(), r.checkHold()); err != nil {
		return err
	}
	locals, err := r.atTargets(locals)
	if err != nil {
		return err
	}
	r.locals = locals
	moves, err := r.plan(ctx, locals)
	if err != nil {
		return err
	}
	r.refs = moves
	if moves, err = r.surveyed(ctx, moves); err != nil {
		return err
	}
	if r.refs = moves; len(moves) == 0 {
		r.nothingToDo = len(r.done) == 0
		return r.countOlder(ctx, locals)
	}
	if r.opt.DryRun {
		if err := r.checkOpen(ctx); err != nil {
			return err
		}
		return r.count(ctx)
	}
	return r.pushParts(ctx, moves)
}

// alreadyMoved tells whether a session failed because its refs had moved to what
// it was to publish: an earlier session for the same was still publishing when we
// asked for the refs, and over when we looked for it.
func (r *run) alreadyMoved(ctx context.Context, moves []wire.Ref, err error) bool {
	var failed *Error
	if !errors.As(err, &failed) || failed.Code != wire.RefMoved || r.fetchRefs(ctx) != nil {
		return false
	}
	for _, m := range moves {
		if r.serverRefs[m.Ref].Commit != m.New {
			return false
		}
	}
	return true
}

// fetchRefs asks the server for its refs: the first contact.
func (r *run) fetchRefs(ctx context.Context) error {
	return r.retrier.Do(ctx, "fetch refs", func() (err error) {
		r.serverRefs, err = r.client.Refs(ctx)
		r.serverFolders = foldersOf(r.serverRefs)
		return err
	})
}

// objects is the source of all that the commits of refs need beyond have, and
// of their detached metadata even if the commits themselves are in have.
func (r *run) objects(refs []wire.Ref, have map[ostree.Checksum]bool) (source, error) {
	var commits []ostree.Checksum
	olds := map[ostree.Checksum]bool{} // the server refuses a gap between these and ours
	for _, ref := range refs {
		c, err := ostree.ParseChecksum(ref.New)
		if err != nil {
			return nil, fmt.Errorf("ref %s: %w", ref.Ref, err)
		}
		commits = append(commits, c)
		if old, err := ostree.ParseChecksum(ref.Old); err == nil {
			olds[old] = true
		}
	}
	if r.opt.History || r.repairs() && r.opt.Depth >= 0 {
		have = nil
	}
	return func(ctx context.Context, visit func(ostree.Name) error) error {
		opt := ostree.WalkOptions{Have: have, Depth: r.opt.Depth, Reach: olds, Whole: r.repairs()}
		return r.repo.Walk(ctx, commits, opt, visit)
	}, nil
}

// count is a dry run: it walks, counts objects and adds up their bytes.
func (r *run) count(ctx context.Context) error {
	walk, err := r.objects(r.refs, r.have())
	if err != nil {
		return err
	}
	start := time.Now()
	err = walk(ctx, func(n ostree.Name) error {
		o, err := r.repo.Object(ctx, n)
		if err != nil {
			return r.objectError(ctx, n, err)
		}
		r.progress.Walked.Add(1)
		r.bytesWalked += o.Size
		return nil
	})
	r.seconds.Walk = since(start)
	if err == nil {
		err = ctx.Err() // a signal counts, also if it came at the very end
	}
	return err
}

// resumeCommand is the command that goes on with this push, "" before there is
// a session. One of several sessions is found again by the same command, which then
// goes on with the rest.
func (r *run) resumeCommand() string {
	split := len(r.done)+len(r.later) > 0
	switch r.session.State {
	case wire.Open, wire.Verifying, wire.Publishing:
	default:
		if !split {
			return ""
		}
	}
	words := []string{cmp.Or(r.opt.Program, "ostree-upload"), "push", "--repo", r.opt.Repo}
	if !r.opt.AddressStays {
		words = append(words, "--address", r.client.AddressToType())
	}
	switch {
	case !split:
		words = append(words, "--resume", r.session.ID)
	case r.opt.Force:
		words = append(words, "--force")
	}
	if split && r.opt.Repair {
		words = append(words, "--repair")
	}
	if split && r.opt.SkipUnfit {
		words = append(words, "--skip-unfit")
	}
	words = append(words, r.opt.Resuming...)
	if split {
		words = append(words, r.opt.Refs...)
	}
	for i, w := range words {
		words[i] = hint.Word(w)
	}
	return strings.Join(words, " ")
}
