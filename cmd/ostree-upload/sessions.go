// SPDX-License-Identifier: AGPL-3.0-or-later

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/lirios/ostree-upload/internal/client"
	"github.com/lirios/ostree-upload/internal/hint"
	"github.com/lirios/ostree-upload/internal/page"
	"github.com/lirios/ostree-upload/internal/wire"
)

// SessionsCmd lists, shows and aborts the sessions of a server.
type SessionsCmd struct {
	serverFlags
	stoppedFlags

	Status string `placeholder:"STATE" enum:",open,verifying,publishing,published,failed,aborted,expired,held,rejected" default:"" help:"List only sessions in this state."`
	JSON   bool   `name:"json" help:"Print one JSON document; with --watch one at each change."`
	Watch  bool   `help:"Print again at each change, until interrupted; show also stops when its session has ended, and nothing is to follow that."`

	List  SessionsListCmd  `cmd:"" default:"withargs" help:"List the sessions, newest first."`
	Show  SessionsShowCmd  `cmd:"" help:"Show one session: its refs, counts, uploads and problems."`
	Abort SessionsAbortCmd `cmd:"" help:"Abort a session that is open, held, or being verified."`
	Chown SessionsChownCmd `cmd:"" help:"Hand a session over to another token, which goes on with it."`

	Publish SessionsPublishCmd `cmd:"" help:"Publish a session that is held, by a token of scope publish."`
	Reject  SessionsRejectCmd  `cmd:"" help:"Reject a session that is held, for good, by a token of scope publish."`
}

// SessionsListCmd lists them.
type SessionsListCmd struct {
	Limit int `placeholder:"N" help:"At most so many, the newest (default: all)."`
}

// SessionsShowCmd shows one.
type SessionsShowCmd struct {
	ID string `arg:"" help:"The session's ID."`
}

// SessionsAbortCmd aborts one.
type SessionsAbortCmd struct {
	ID string `arg:"" help:"The session's ID."`
}

// SessionsChownCmd hands one over.
type SessionsChownCmd struct {
	ID   string `arg:"" help:"The session's ID."`
	Name string `arg:"" help:"Name of the token that it is to belong to, which may push all of its refs."`
}

// A sessionSource is where sessions are read: a server, or the state folder of one that
// does not run.
type sessionSource interface {
	NewestSessions(ctx context.Context, state string, most int) ([]wire.Session, error)
	Session(ctx context.Context, id string, wait time.Duration) (wire.Session, error)
	Close()
}

// watchEvery is how often --watch asks the server. The API's parameter wait would
// not do: it waits for another state, and a watch shows counts too.
const watchEvery = time.Second

// Run prints the list.
func (c *SessionsListCmd) Run(ctx context.Context, app *App, opt *SessionsCmd) error {
	if c.Limit < 0 {
		return usage("--limit %d: give the number of sessions, or leave it out for all", c.Limit)
	}
	from, err := opt.source(ctx)
	if err != nil {
		return err
	}
	defer from.Close()
	return opt.repeat(ctx, app, func() (string, bool, error) {
		list, err := from.NewestSessions(ctx, opt.Status, c.Limit)
		if err != nil {
			return "", false, err
		}
		if opt.JSON {
			text, err := page.JSON(whole(list...))
			return text, false, err
		}
		return page.Sessions(list, time.Now()), false, nil
	})
}

// Run prints the session.
func (c *SessionsShowCmd) Run(ctx context.Context, app *App, opt *SessionsCmd) error {
	from, err := opt.source(ctx)
	if err != nil {
		return err
	}
	defer from.Close()
	return opt.repeat(ctx, app, func() (string, bool, error) {
		s, err := from.Session(ctx, c.ID, 0)
		if err != nil {
			return "", false, err
		}
		if opt.JSON {
			text, err := page.JSON(whole(s).Sessions[0])
			return text, last(s), err
		}
		if s.Preview != "" {
			s.Preview = previewURL(opt.Address, s.Preview)
		}
		return page.Session(s), last(s), nil
	})
}

// last tells whether nothing about a session will change any more.
func last(s wire.Session) bool { return page.Ended(s) && len(s.Following()) == 0 }

// Run aborts the session.
func (c *SessionsAbortCmd) Run(ctx context.Context, app *App, opt *SessionsCmd) error {
	if opt.State != "" {
		return badUsage{hint.Add(errors.New("--state only reads: without its server no session can be aborted"),
			"start the server and abort it there, or leave it: it expires")}
	}
	s, err := opt.decide(ctx, func(api *client.Client) (wire.Session, error) { return api.Abort(ctx, c.ID) })
	if err != nil {
		return err
	}
	return opt.tell(app, s, "aborted")
}

// Run hands the session over.
func (c *SessionsChownCmd) Run(ctx context.Context, app *App, opt *SessionsCmd) error {
	s, err := opt.decide(ctx, func(api *client.Client) (wire.Session, error) { return api.SetOwner(ctx, c.ID, c.Name) })
	if err != nil {
		return err
	}
	return opt.tell(app, s, "token "+page.Printable(c.Name)+" owns")
}

// repeat prints what look returns: once or, with --watch, each time that it has
// changed, until look says that this was the last. A watch goes on while look
// fails with a temporary error, and prints the first of them.
func (opt *SessionsCmd) repeat(ctx context.Context, app *App, look func() (text string, last bool, err error)) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for before, failing := "", false; ; {
		text, last, err := look()
		switch {
		case err != nil && (!opt.Watch || ctx.Err() != nil || client.KindOf(err) != client.Temporary):
			return interruptedOr(ctx, err)
		case err != nil && !failing:
			fmt.Fprintf(app.Stderr, "%s; trying again until interrupted\n", page.Text(err.Error()))
		case err == nil && text != before:
			if _, err := io.WriteString(app.Stdout, text); err != nil {
				return err
			}
			before = text
		}
		failing = err != nil
		if last || !opt.Watch {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errInterrupted
		}
	}
}

// source is where the flags say that the sessions are.
func (opt *SessionsCmd) source(ctx context.Context) (sessionSource, error) {
	switch {
	case opt.State == "":
		return opt.client(ctx)
	case opt.Watch:
		return nil, usage("--watch and --state do not go together: nothing changes while no server runs")
	}
	return opt.look()
}

// client is the server's. It may lack a token: the server then refuses, and says
// how one gets a token.
func (opt *SessionsCmd) client(ctx context.Context) (*client.Client, error) {
	server, err := opt.server(ctx)
	if err != nil {
		return nil, err
	}
	return client.Open(server)
}

// interruptedOr is err, or errInterrupted if a signal is the cause.
func interruptedOr(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return errInterrupted
	}
	return err
}

// whole is a list of sessions whose empty lists are [] in JSON, not null.
func whole(list ...wire.Session) wire.SessionList {
	all := wire.SessionList{Sessions: append([]wire.Session{}, list...)}
	for i := range all.Sessions {
		s := &all.Sessions[i]
		s.Refs, s.Problems = append([]wire.Ref{}, s.Refs...), append([]wire.ObjectProblem{}, s.Problems...)
	}
	return all
}
