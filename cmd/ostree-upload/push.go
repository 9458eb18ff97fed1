// SPDX-License-Identifier: AGPL-3.0-or-later

package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/lirios/ostree-upload/internal/encode"
	"github.com/lirios/ostree-upload/internal/hint"
	"github.com/lirios/ostree-upload/internal/page"
	"github.com/lirios/ostree-upload/internal/push"
	"github.com/lirios/ostree-upload/internal/units"
	"github.com/lirios/ostree-upload/internal/wire"
)

// firstContact is how long to try a server that has never answered, unless
// --retry-for is given: a mistyped address should not take minutes.
const firstContact = 20 * time.Second

// softMemory is from where on the collector works harder.
const softMemory = 200 << 20

// PushCmd copies commits to the server and has them published.
type PushCmd struct {
	Repo string `short:"r" default:"repo" env:"OSTREE_UPLOAD_REPO" placeholder:"REPO" help:"Build repository (${default})."`
	serverFlags

	Branch      []string        `short:"b" sep:"none" placeholder:"REF" help:"Ref to push, or LOCAL:REMOTE, or ORIGIN:REF of what was pulled; several with commas between; repeatable (default: all local refs)."`
	Refs        []string        `arg:"" optional:"" name:"ref" help:"Refs to push, as with --branch."`
	Resume      *string         `placeholder:"SESSION" help:"Resume this session."`
	Depth       *int            `placeholder:"N" help:"Parents to send of each commit; -1: all that are here, as --history (default: those that the server's refs do not reach)."`
	SkipUnfit   bool            `help:"Without names: leave out, without an error, the refs that cannot be pushed."`
	History     bool            `help:"Send also what the server lacks of the history behind its own commits, and new signatures there."`
	Repair      bool            `help:"Have the server verify all that it has of these commits, and send what is damaged or gone there."`
	Force       bool            `help:"Push also commits that do not descend from the server's."`
	FollowAlias bool            `help:"Where a ref is an alias on the server, push to the ref that it stands for."`
	Hold        bool            `help:"Have it verified and held on the server, for a token of scope publish to publish or reject."`
	DryRun      bool            `help:"Print what would be pushed, and push nothing."`
	WaitAfter   bool            `help:"Wait until what follows the publish on the server is done, such as deltas or a command; what fails is waited for as long as --retry-for says."`
	TakeOver    bool            `help:"Take the place of another push of the same, which then waits, instead of waiting for it."`
	Prune       bool            `help:"Run 'ostree prune --refs-only' on the build repository first."`
	Jobs        int             `default:"4" placeholder:"N" help:"Uploads at once (${default})."`
	ChunkSize   units.Size      `default:"8MiB" placeholder:"SIZE" help:"Most bytes of one request (${default})."`
	Encoding    string          `enum:"auto,archive,zstd,delta" default:"auto" help:"How objects travel: archive, zstd (compressed together), delta (the same, and as differences from what the server has), or auto (as the link is)."`
	Encoders    int             `placeholder:"N" help:"Objects encoded at once, each with some 100 MiB of memory (default: the number of processors)."`
	LimitRate   *units.Rate     `placeholder:"SIZE" help:"Most bytes a second to send in all, such as 500kB or 2MB (default: no limit)."`
	RetryFor    *units.Duration `placeholder:"DURATION" help:"How long to retry without progress (15m; 20s if the server has never answered)."`
	JSON        bool            `name:"json" help:"Print the result as one JSON document."`
}

// Run pushes and prints the result.
func (c *PushCmd) Run(ctx context.Context, app *App) error {
	opt, err := c.options(ctx)
	if err == nil && c.Prune {
		err = push.Prune(ctx, c.Repo, c.DryRun, app.Stderr)
	}
	var result *push.Result
	if err == nil {
		result, err = c.push(ctx, app, opt)
	}
	if result != nil {
		warn(app, result)
	}
	if result != nil && !c.WaitAfter {
		tellFollowing(app, result)
	}
	if c.JSON {
		if result == nil {
			result = failedResult(err)
		}
		text, failed := page.JSON(result)
		if failed == nil {
			_, failed = io.WriteString(app.Stdout, text)
		}
		return cmp.Or(err, failed)
	}
	if result != nil && result.Done() {
		c.print(app, result)
	}
	return err
}

// failedResult is the document of a push that never began.
func failedResult(err error) *push.Result {
	e := &push.Error{Exit: exitCode(err), Code: push.Code(err), Err: err, HintText: hint.Of(err)}
	return e.Result()
}

// push pushes and shows how far it is.
func (c *PushCmd) push(ctx context.Context, app *App, opt push.Options) (*push.Result, error) {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(softMemory) // encoders have large buffers, beside which garbage need not pile up
	}
	opt.Progress = new(push.Progress)
	shown, stop := showProgress(app, opt.Progress)
	defer stop()
	opt.Log = shown.Log
	opt.OnSession = func(s wire.Session, resumed bool) { announce(shown, s, resumed) }
	return push.Run(ctx, opt)
}

// options checks the flags that kong cannot.
func (c *PushCmd) options(ctx context.Context) (push.Options, error) {
	if err := c.check(); err != nil {
		return push.Options{}, err
	}
	server, err := c.server(ctx)
	if err != nil {
		return push.Options{}, err
	}
	opt := push.Options{
		Repo: c.Repo, Server: server,
		Refs: c.refs(), Resume: value(c.Resume),
		Program: os.Args[0], Resuming: c.resuming(), AddressStays: c.addressStays(),
		Depth: c.depth(), History: c.history(), Force: c.Force, Repair: c.Repair, Hold: c.Hold, SkipUnfit: c.SkipUnfit, DryRun: c.DryRun, FollowAlias: c.FollowAlias, WaitAfter: c.WaitAfter, TakeOver: c.TakeOver,
		Jobs: c.Jobs, ChunkSize: int64(c.ChunkSize), Encoding: c.Encoding, Encoders: c.Encoders,
		RetryFor: push.DefaultRetryFor, FirstContact: firstContact,
	}
	if c.LimitRate != nil {
		opt.Server.LimitRate = int64(*c.LimitRate)
	}
	if c.RetryFor != nil {
		opt.RetryFor = time.Duration(*c.RetryFor)
		opt.FirstContact = opt.RetryFor
	}
	return opt, nil
}

// refs are those of the flags, where a comma is between two, and of the arguments.
func (c *PushCmd) refs() (refs []string) {
	for _, b := range c.Branch {
		refs = append(refs, strings.Split(b, ",")...)
	}
	return append(refs, c.Refs...)
}

// depth is how many parents to send, -1 unless that is limited.
func (c *PushCmd) depth() int {
	if c.Depth == nil {
		return -1
	}
	return *c.Depth
}

// history tells whether all parents are asked for, in either way.
func (c *PushCmd) history() bool { return c.History || c.Depth != nil && *c.Depth == -1 }

// misspelt tells whether what is to be pushed has too many parts, or an empty one.
func misspelt(spec string) bool {
	parts := strings.Split(spec, ":")
	return len(parts) > 3 || slices.Contains(parts, "")
}

func (c *PushCmd) check() error {
	switch {
	case c.Jobs < 1 || c.Jobs > 64:
		return usage("--jobs %d: give 1 to 64", c.Jobs)
	case c.ChunkSize < 64<<10 || c.ChunkSize > 64<<20:
		return usage("--chunk-size %s: give 64KiB to 64MiB; each of --jobs takes that much memory", c.ChunkSize)
	case c.LimitRate != nil && *c.LimitRate < 1000:
		return usage("--limit-rate %s: give at least 1kB, or leave it out for no limit", c.LimitRate)
	case c.Encoders < 0 || c.Encoders > 64:
		return usage("--encoders %d: give 1 to 64, or leave it out for the number of processors", c.Encoders)
	case c.Resume != nil && *c.Resume == "":
		return usage("--resume needs a session")
	case slices.Contains(c.refs(), ""):
		return usage("the name of a ref is empty")
	case slices.ContainsFunc(c.refs(), misspelt):
		return usage("%q: give REF, LOCAL:REMOTE, ORIGIN:REF or ORIGIN:REF:REMOTE", c.refs()[slices.IndexFunc(c.refs(), misspelt)])
	case c.SkipUnfit && len(c.refs()) > 0:
		return usage("--skip-unfit is for a push of all refs: leave out %s", c.refs()[0])
	case c.depth() < -1:
		return usage("--depth %d: give 0 or more, or -1 for all", c.depth())
	case c.History && c.depth() >= 0:
		return usage("--history sends all parents: leave out --depth %d", c.depth())
	case c.Resume != nil && len(c.Branch)+len(c.Refs) > 0:
		return usage("--resume takes the refs from the session: leave out %s", c.refs()[0])
	case c.WaitAfter && c.Hold:
		return usage("--wait-after and --hold do not go together: nothing is published yet")
	case c.Resume != nil && c.Repair:
		return usage("--resume goes on with a repair if the session is one: leave out --repair")
	case c.WaitAfter && c.DryRun:
		return usage("--wait-after and --dry-run do not go together: nothing is published")
	case c.TakeOver && c.DryRun:
		return usage("--take-over and --dry-run do not go together: nothing is sent")
	case c.Resume != nil && c.DryRun:
		return usage("--resume and --dry-run do not go together")
	}
	return nil
}

// resuming are the flags to repeat when the push is resumed.
func (c *PushCmd) resuming() (flags []string) {
	flags = c.again()
	if c.depth() != -1 {
		flags = append(flags, fmt.Sprintf("--depth=%d", c.depth()))
	}
	if c.history() {
		flags = append(flags, "--history")
	}
	if c.Jobs != push.DefaultJobs {
		flags = append(flags, fmt.Sprintf("--jobs=%d", c.Jobs))
	}
	if c.ChunkSize != push.DefaultChunk {
		flags = append(flags, fmt.Sprintf("--chunk-size=%s", c.ChunkSize))
	}
	if c.Encoding != push.Auto {
		flags = append(flags, "--encoding="+c.Encoding)
	}
	if c.FollowAlias {
		flags = append(flags, "--follow-alias")
	}
	if c.WaitAfter {
		flags = append(flags, "--wait-after")
	}
	if c.Encoders > 0 {
		flags = append(flags, fmt.Sprintf("--encoders=%d", c.Encoders))
	}
	if c.LimitRate != nil {
		flags = append(flags, fmt.Sprintf("--limit-rate=%s", c.LimitRate))
	}
	return flags
}

func value(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// announce prints the session's ID as soon as there is one: --resume needs it if
// this process dies.
func announce(app *App, s wire.Session, resumed bool) {
	if !resumed {
		fmt.Fprintf(app.Stderr, "session %s opened\n", s.ID)
		return
	}
	fmt.Fprintf(app.Stderr, "session %s resumed: it is %s and has %s of its %s objects, %s\n",
		page.Printable(s.ID), page.Printable(s.State), units.Thousands(s.Objects.Known-s.Objects.Missing), units.Thousands(s.Objects.Known), units.Amount(s.Bytes.Received))
}

// print prints a line for each ref.
func (c *PushCmd) print(app *App, r *push.Result) {
	switch {
	case r.NothingToDo:
		fmt.Fprintln(app.Stdout, "nothing to do")
		return
	case len(r.Refs) == 0: // all were left out
		return
	case r.DryRun:
		for _, ref := range r.Refs {
			fmt.Fprintf(app.Stdout, "would push %s %s\n", ref.Ref, ref.New)
		}
		fmt.Fprintf(app.Stdout, "%s objects, %s, less what the server has already\n", units.Thousands(r.Objects), units.Amount(r.BytesWalked))
		return
	}
	session := "session " + page.Printable(r.Session.ID)
	if len(r.Sessions) > 1 {
		session = fmt.Sprintf("%d sessions", len(r.Sessions))
	}
	sent := fmt.Sprintf("%s, %s sent%s, %s",
		units.Count(r.ObjectsSent, "object", "objects"), units.Amount(r.BytesSent), saved(r), session)
	defer printRepair(app, r.Repair)
	done := "published"
	if r.Session.State == wire.Held {
		done = "held"
		defer tellHeld(app, &r.Session, c.Address)
	}
	if len(r.Refs) == 1 {
		fmt.Fprintf(app.Stdout, done+" %s %s (%s)\n", page.Printable(r.Refs[0].Ref), page.Printable(r.Refs[0].New), sent)
		return
	}
	for _, ref := range r.Refs {
		fmt.Fprintf(app.Stdout, done+" %s %s\n", page.Printable(ref.Ref), page.Printable(ref.New))
	}
	fmt.Fprintf(app.Stdout, "%d refs: %s\n", len(r.Refs), sent)
}

// tellHeld says what is to be done with a session that is held.
func tellHeld(app *App, s *wire.Session, address string) {
	if s.Preview != "" {
		fmt.Fprintf(app.Stdout, "preview %s\n", previewURL(address, s.Preview))
	}
	fmt.Fprintf(app.Stderr, "held until %s, for a token of scope publish: ostree-upload sessions publish %s\n",
		s.Expires.UTC().Format(time.DateTime+"Z"), page.Printable(s.ID))
}

// printRepair says what the server had to take of what it was to have.
func printRepair(app *App, r *push.Repair) {
	if r == nil {
		return
	}
	fmt.Fprintf(app.Stdout, "the server verified %s, of which %s were damaged or absent\n",
		units.Count(r.Objects, "object", "objects"), units.Thousands(r.Absent))
}

// saved says how many bytes other encodings than archive form have saved.
func saved(r *push.Result) string {
	if r.BytesSaved <= 0 {
		return ""
	}
	var each []string
	for _, way := range []struct{ name, text string }{{encode.NameDelta, "differences"}, {encode.NameZstd, "shared compression"}} {
		if w := r.Encodings[way.name]; w.Archive > w.Bytes {
			each = append(each, way.text+" "+units.Amount(w.Archive-w.Bytes))
		}
	}
	return fmt.Sprintf(" of %s (saved: %s)", units.Amount(r.BytesSent+r.BytesSaved), strings.Join(each, ", "))
}

// warn prints what a person should know of a push although it succeeded.
func warn(app *App, r *push.Result) {
	if r.Session.State == wire.Published && r.Session.Detail != "" {
		fmt.Fprintf(app.Stderr, "published, but: %s\n", page.Printable(r.Session.Detail))
	}
	if r.Done() && r.ErrorCode == "" && len(r.Left) > 0 { // with --skip-unfit; else the error says so
		fmt.Fprintln(app.Stderr, page.Text(push.LeftOut(r.Left)))
	}
	if r.OlderAbsent > 0 {
		fmt.Fprintf(app.Stderr, "the server lacks older commits of these refs (%s): push --history sends them\n", units.Thousands(r.OlderAbsent))
	}
}

// tellFollowing prints what is to follow the publish and is not done yet.
func tellFollowing(app *App, r *push.Result) {
	if left := r.Session.Following(); len(left) > 0 && r.Done() {
		fmt.Fprintf(app.Stderr, "still to follow on the server: %s (push --wait-after waits for it)\n", page.Printable(push.Works(left)))
	}
}
