// SPDX-License-Identifier: AGPL-3.0-or-later

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/lirios/ostree-upload/internal/client"
	"github.com/lirios/ostree-upload/internal/hint"
	"github.com/lirios/ostree-upload/internal/page"
	"github.com/lirios/ostree-upload/internal/push"
	"github.com/lirios/ostree-upload/internal/token"
	"github.com/lirios/ostree-upload/internal/wire"
)

// RefsCmd lists, sets, deletes and rolls back the refs of a server. Nothing is sent: the
// commits are there.
type RefsCmd struct {
	serverFlags
	JSON bool `name:"json" help:"Print one JSON document."`

	List     RefsListCmd     `cmd:"" default:"withargs" help:"List the refs of the server that the token may name, with their commits."`
	Set      RefsSetCmd      `cmd:"" help:"Set refs to commits that the server has, or to those of other refs."`
	Delete   RefsDeleteCmd   `cmd:"" help:"Delete refs."`
	Log      RefsLogCmd      `cmd:"" help:"Tell who moved a ref, when, from what to what."`
	Rollback RefsRollbackCmd `cmd:"" help:"Set a ref back to what it was before its last move."`
}

// RefsListCmd lists refs.
type RefsListCmd struct {
	Glob  string `arg:"" optional:"" placeholder:"GLOB" help:"Only refs that match: * stops at /, ** does not; without a star, that ref and all below it."`
	Limit int    `placeholder:"N" help:"At most so many (default: all)."`
}

// RefsLogCmd shows the moves of a ref.
type RefsLogCmd struct {
	Ref   string `arg:"" placeholder:"REF" help:"The ref."`
	Limit int    `placeholder:"N" help:"At most so many moves, the newest (default: all that are remembered)."`
}

// Run prints the list.
func (c *RefsListCmd) Run(ctx context.Context, app *App, opt *RefsCmd) error {
	if c.Limit < 0 {
		return usage("--limit %d: give the number of refs, or leave it out for all", c.Limit)
	}
	if c.Glob != "" {
		if err := token.CheckGlob(c.Glob); err != nil {
			return usage("%w", err)
		}
	}
	api, err := opt.client(ctx)
	if err != nil {
		return err
	}
	defer api.Close()
	list, err := listRefs(ctx, api, client.RefQuery{Glob: c.Glob, All: true, Moved: opt.JSON, Limit: min(c.Limit, wire.MaxPage)}, c.Limit)
	if err != nil {
		return interruptedOr(ctx, err)
	}
	text := page.Refs(list)
	if opt.JSON {
		if text, err = page.JSON(list); err != nil {
			return err
		}
	}
	if _, err = io.WriteString(app.Stdout, text); err == nil && list.Next != "" {
		fmt.Fprintf(app.Stderr, "there are more refs than the %d of --limit\n", len(list.Refs))
	}
	return err
}

// listRefs reads pages of refs, up to so many refs; 0 for all, which are one page.
func listRefs(ctx context.Context, api *client.Client, q client.RefQuery, most int) (wire.RefList, error) {
	all := wire.RefList{Refs: map[string]wire.RefState{}}
	for {
		part, err := api.ListRefs(ctx, q)
		if err != nil {
			return all, err
		}
		for name, state := range part.Refs {
			all.Refs[name] = state
		}
		all.Next = part.Next
		if part.Next == "" || part.Next == q.After || len(all.Refs) >= most {
			return all, nil
		}
		q.After, q.Limit = part.Next, min(most-len(all.Refs), wire.MaxPage)
	}
}

// Run prints the moves.
func (c *RefsLogCmd) Run(ctx context.Context, app *App, opt *RefsCmd) error {
	if c.Limit < 0 {
		return usage("--limit %d: give the number of moves, or leave it out for all", c.Limit)
	}
	if err := push.CheckRef(c.Ref); err != nil {
		return err
	}
	api, err := opt.client(ctx)
	if err != nil {
		return err
	}
	defer api.Close()
	log, err := readLog(ctx, api, c.Ref, c.Limit)
	if err != nil {
		return interruptedOr(ctx, err)
	}
	text := page.RefLog(log)
	if opt.JSON {
		if text, err = page.JSON(log); err != nil {
			return err
		}
	}
	if _, err = io.WriteString(app.Stdout, text); err == nil && len(log.Moves) == 0 {
		fmt.Fprintf(app.Stderr, "the server remembers no move of ref %s\n", page.Printable(c.Ref))
	}
	return err
}

// readLog reads pages of a ref's log, up to so many moves, 0 for all.
func readLog(ctx context.Context, api *client.Client, ref string, most int) (wire.RefLog, error) {
	log := wire.RefLog{Ref: ref, Moves: []wire.RefMove{}}
	for {
		limit := wire.MaxPage
		if most > 0 {
			limit = min(limit, most-len(log.Moves))
		}
		part, err := api.RefLog(ctx, ref, log.Next, limit)
		if err != nil {
			return log, err
		}
		log.Moves = append(log.Moves, part.Moves...)
		if part.Next == "" || part.Next == log.Next || len(log.Moves) == most {
			log.Next = part.Next
			return log, nil
		}
		log.Next = part.Next
	}
}

// client is the server's.
func (opt *RefsCmd) client(ctx context.Context) (*client.Client, error) {
	server, err := opt.server(ctx)
	if err != nil {
		return nil, err
	}
	return client.Open(server)
}

// pairs reads what is to become of refs: REF TARGET, or REF=TARGET as often as one likes.
func pairs(args []string) (all []string, err error) {
	if len(args) == 2 && !strings.Contains(args[0], "=") {
		return args, nil
	}
	for _, arg := range args {
		ref, to, is := strings.Cut(arg, "=")
		if !is || ref == "" || to == "" {
			return nil, badUsage{hint.Add(fmt.Errorf("%.300q is not REF=TARGET", arg), "ostree-upload refs set REF TARGET, or several: ostree-upload refs set REF=TARGET REF=TARGET")}
		}
		all = append(all, ref, to)
	}
	if len(all) == 0 {
		return nil, badUsage{hint.Add(errors.New("there is no ref to set"), "ostree-upload refs set REF TARGET, where TARGET is a commit or another ref")}
	}
	return all, nil
}
