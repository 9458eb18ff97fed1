// SPDX-License-Identifier: AGPL-3.0-or-later

package main

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/lirios/ostree-upload/internal/hint"
	"github.com/lirios/ostree-upload/internal/page"
	"github.com/lirios/ostree-upload/internal/push"
	"github.com/lirios/ostree-upload/internal/units"
	"github.com/lirios/ostree-upload/internal/wire"
)

// setFlags are those of each command that moves refs.
type setFlags struct {
	DryRun    bool            `help:"Tell what would be done, and do nothing."`
	WaitAfter bool            `help:"Wait until what follows on the server is done, as push does."`
	RetryFor  *units.Duration `placeholder:"DURATION" help:"How long to retry without progress (15m; 20s if the server has never answered)."`
}

// RefsSetCmd sets refs.
type RefsSetCmd struct {
	Refs        []string `arg:"" optional:"" name:"ref" placeholder:"REF" help:"REF TARGET, or REF=TARGET several times: all are set or none. A target is a commit or another ref."`
	FromFile    string   `placeholder:"FILE" help:"Read them from a file, - for stdin: REF TARGET in each line."`
	Force       bool     `help:"Set refs also to commits that do not descend from those that they name."`
	FollowAlias bool     `help:"Where a ref is an alias on the server, set the ref that it stands for."`
	setFlags
}

// RefsDeleteCmd deletes refs.
type RefsDeleteCmd struct {
	Refs []string `arg:"" name:"ref" placeholder:"REF" help:"The refs: all are deleted or none."`
	setFlags
}

// RefsRollbackCmd sets a ref back.
type RefsRollbackCmd struct {
	Ref         string `arg:"" placeholder:"REF" help:"The ref."`
	To          string `placeholder:"COMMIT" help:"To this commit, or the beginning of one, that the ref had earlier."`
	FollowAlias bool   `help:"If the ref is an alias on the server, set the ref back that it stands for."`
	setFlags
}

// Run sets them.
func (c *RefsSetCmd) Run(ctx context.Context, app *App, opt *RefsCmd) error {
	args := c.Refs
	if c.FromFile != "" {
		if len(args) > 0 {
			return usage("--from-file and %s do not go together", args[0])
		}
		var err error
		if args, err = readPairs(c.FromFile); err != nil {
			return err
		}
	}
	list, err := pairs(args)
	if err != nil {
		return err
	}
	set := push.SetOptions{Force: c.Force, FollowAlias: c.FollowAlias}
	for i := 0; i < len(list); i += 2 {
		set.Wants = append(set.Wants, push.Want{Ref: list[i], To: list[i+1]})
	}
	return c.run(ctx, app, opt, set, "set")
}

// Run deletes them.
func (c *RefsDeleteCmd) Run(ctx context.Context, app *App, opt *RefsCmd) error {
	var set push.SetOptions
	for _, ref := range c.Refs {
		set.Wants = append(set.Wants, push.Want{Ref: ref})
	}
	return c.run(ctx, app, opt, set, "set")
}

// Run sets it back.
func (c *RefsRollbackCmd) Run(ctx context.Context, app *App, opt *RefsCmd) error {
	if c.To != "" && (len(c.To) < leastDigits || len(c.To) > 64 || strings.Trim(c.To, "0123456789abcdef") != "") {
		return usage("--to %.100q: give a commit, 64 hex digits or at least %d of their beginning", c.To, leastDigits)
	}
	set := push.SetOptions{Wants: []push.Want{{Ref: c.Ref, To: c.To}}, Back: true, FollowAlias: c.FollowAlias}
	return c.run(ctx, app, opt, set, "rolled back")
}

// leastDigits are enough to tell the commits of a log from each other, mostly.
const leastDigits = 6

// maxPairs bounds the file of refs that is read.
const maxPairs = 1_000_000

// readPairs reads lines of REF TARGET, as REF=TARGET. Empty ones do not count.
func readPairs(path string) (args []string, err error) {
	in := io.Reader(os.Stdin)
	if path != "-" {
		f, err := os.Open(path) // #nosec G304 -- the user names it
		if err != nil {
			return nil, badUsage{err}
		}
		defer f.Close() //nolint:errcheck // it was read only
		in = f
	}
	lines := bufio.NewScanner(in)
	for n := 1; lines.Scan(); n++ {
		words := strings.Fields(strings.Replace(lines.Text(), "=", " ", 1))
		switch {
		case len(words) == 0:
		case len(words) != 2 || n > maxPairs:
			return nil, badUsage{hint.Add(fmt.Errorf("%s, line %d: %.300q is not a ref and its target", path, n, lines.Text()), "each line is REF TARGET, where TARGET is a commit or another ref")}
		default:
			args = append(args, words[0]+"="+words[1])
		}
	}
	return args, lines.Err()
}

// run does what set says and prints it.
func (f *setFlags) run(ctx context.Context, app *App, opt *RefsCmd, set push.SetOptions, done string) error {
	if f.WaitAfter && f.DryRun {
		return usage("--wait-after and --dry-run do not go together: nothing is published")
	}
	server, err := opt.server(ctx)
	if err != nil {
		return err
	}
	set.Server, set.DryRun, set.WaitAfter, set.Log = server, f.DryRun, f.WaitAfter, app.Log
	set.RetryFor, set.FirstContact = push.DefaultRetryFor, firstContact
	if f.RetryFor != nil {
		set.RetryFor = time.Duration(*f.RetryFor)
		set.FirstContact = set.RetryFor
	}
	result, err := push.SetRefs(ctx, set)
	if result.Session.State == wire.Published && result.Session.Detail != "" {
		fmt.Fprintf(app.Stderr, "published, but: %s\n", page.Printable(result.Session.Detail))
	}
	var text string
	switch {
	case opt.JSON:
		var failed error
		if text, failed = page.JSON(result); failed != nil {
			return cmp.Or(err, failed)
		}
	case err == nil:
		text = moved(result, done)
	}
	_, failed := io.WriteString(app.Stdout, text)
	return cmp.Or(err, failed)
}

// moved tells of each ref what became of it.
func moved(r *push.SetResult, done string) string {
	if r.NothingToDo {
		return "nothing to do\n"
	}
	var b strings.Builder
	for _, ref := range r.Refs {
		was := "new"
		if ref.Old != "" {
			was = "was " + ref.Old
		}
		switch {
		case ref.New == "" && r.DryRun:
			fmt.Fprintf(&b, "would delete %s (%s)\n", ref.Ref, was)
		case ref.New == "":
			fmt.Fprintf(&b, "deleted %s (%s)\n", ref.Ref, was)
		case r.DryRun:
			fmt.Fprintf(&b, "would set %s %s (%s)\n", ref.Ref, ref.New, was)
		default:
			fmt.Fprintf(&b, "%s %s %s (%s)\n", done, ref.Ref, ref.New, was)
		}
	}
	if !r.DryRun {
		fmt.Fprintf(&b, "%s: session %s\n", units.Count(int64(len(r.Refs)), "ref", "refs"), page.Printable(r.Session.ID))
	}
	return b.String()
}
