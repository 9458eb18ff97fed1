// SPDX-License-Identifier: AGPL-3.0-or-later

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/lirios/ostree-upload/internal/push"
	"github.com/lirios/ostree-upload/internal/wire"
)

// SessionsCmd shows what is being pushed to a server, and stops it.
type SessionsCmd struct {
	Address   string `short:"a" env:"OSTREE_UPLOAD_ADDRESS" default:"http://localhost:8080" placeholder:"URL" help:"The server (default: ${default})."`
	Token     string `short:"t" env:"OSTREE_UPLOAD_TOKEN" placeholder:"TOKEN" help:"Token to authenticate with."`
	TokenFile string `placeholder:"FILE" help:"File that holds the token, for whom a command line is too public."`
	Status    string `placeholder:"STATE" enum:",open,verifying,publishing,published,failed,aborted,expired" default:"" help:"List only sessions in this state."`
	JSON      bool   `name:"json" help:"Print the server's documents."`
	Watch     bool   `help:"Print again at each change, until interrupted or, with show, finished."`

	List  SessionsListCmd  `cmd:"" default:"withargs" help:"List the sessions, newest first."`
	Show  SessionsShowCmd  `cmd:"" help:"Show one session: its refs, counts, uploads and problems."`
	Abort SessionsAbortCmd `cmd:"" help:"Abort a session that is open or being verified."`
}

// SessionsListCmd lists them.
type SessionsListCmd struct{}

// SessionsShowCmd shows one.
type SessionsShowCmd struct {
	ID string `arg:"" help:"The session's ID."`
}

// SessionsAbortCmd aborts one.
type SessionsAbortCmd struct {
	ID string `arg:"" help:"The session's ID."`
}

// watchEvery is how often --watch asks the server. Its own way of waiting, the
// parameter wait, ends at changes of state only, and here counts matter too.
const watchEvery = time.Second

// Run prints the list.
func (*SessionsListCmd) Run(ctx context.Context, app *App, opt *SessionsCmd) error {
	client, err := opt.client()
	if err != nil {
		return err
	}
	defer client.Close()
	return opt.repeat(ctx, app, func() (string, bool, error) {
		list, err := client.Sessions(ctx, opt.Status)
		if err != nil {
			return "", false, err
		}
		if opt.JSON {
			text, err := document(wire.SessionList{Sessions: orEmpty(list)})
			return text, false, err
		}
		return sessionTable(list), false, nil
	})
}

// Run prints the session.
func (c *SessionsShowCmd) Run(ctx context.Context, app *App, opt *SessionsCmd) error {
	client, err := opt.client()
	if err != nil {
		return err
	}
	defer client.Close()
	return opt.repeat(ctx, app, func() (string, bool, error) {
		s, err := client.Session(ctx, c.ID, 0)
		if err != nil {
			return "", false, err
		}
		if opt.JSON {
			text, err := document(s)
			return text, finished(s), err
		}
		return sessionPage(s), finished(s), nil
	})
}

// Run aborts the session.
func (c *SessionsAbortCmd) Run(ctx context.Context, app *App, opt *SessionsCmd) error {
	client, err := opt.client()
	if err != nil {
		return err
	}
	defer client.Close()
	s, err := client.Abort(ctx, c.ID)
	if err != nil {
		return opt.explain(ctx, err)
	}
	text := fmt.Sprintf("aborted %s\n", s.ID)
	if opt.JSON {
		if text, err = document(s); err != nil {
			return err
		}
	}
	_, err = io.WriteString(app.Stdout, text)
	return err
}

// repeat prints what look returns, once or, with --watch, whenever it is other
// than before, until look says that this was the last. A watch goes on while look
// fails for the moment, and says so at the first time.
func (opt *SessionsCmd) repeat(ctx context.Context, app *App, look func() (text string, last bool, err error)) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for before, failing := "", false; ; {
		text, last, err := look()
		switch {
		case err != nil && (!opt.Watch || ctx.Err() != nil || !push.MayPass(err)):
			return opt.explain(ctx, err)
		case err != nil && !failing:
			fmt.Fprintf(app.Stderr, "%s; trying again until interrupted\n", readable(opt.explain(ctx, err).Error()))
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
			return opt.explain(ctx, ctx.Err())
		}
	}
}

// client is the server's, with the token from the flag, the file or the
// environment. Without any, the server is asked all the same: it refuses, and
// says how one gets a token.
func (opt *SessionsCmd) client() (*push.Client, error) {
	token := opt.Token
	if opt.TokenFile != "" && token != "" && token != os.Getenv("OSTREE_UPLOAD_TOKEN") {
		return nil, usage("--token and --token-file do not go together")
	}
	if opt.TokenFile != "" {
		text, err := os.ReadFile(opt.TokenFile)
		if err != nil {
			return nil, fmt.Errorf("reading the token: %w", err)
		}
		token = string(text)
	}
	return push.NewClient(cmp.Or(opt.Address, defaultAddress), token)
}

// explain gives an error the exit code of the design: 3 for a refused token,
// 75 for a server that cannot be reached, 130 after a signal, else 1.
func (opt *SessionsCmd) explain(ctx context.Context, err error) error {
	var problem *wire.Problem
	var network *url.Error
	switch {
	case ctx.Err() != nil:
		return &push.Error{Exit: push.ExitInterrupted, Err: errors.New("interrupted")}
	case errors.As(err, &problem) && (problem.Code() == wire.Unauthorized || problem.Code() == wire.Forbidden):
		return &push.Error{Exit: push.ExitRefused, Code: problem.Code(), Err: err, HintText: problem.Hint()}
	case errors.As(err, &problem) && (problem.Status >= 500 || problem.Status == http.StatusTooManyRequests):
		return &push.Error{Exit: push.ExitForNow, Code: problem.Code(), Err: err, HintText: problem.Hint()}
	case errors.As(err, &problem):
		return &push.Error{Exit: push.ExitFailed, Code: problem.Code(), Err: err, HintText: problem.Hint()}
	case errors.As(err, &network):
		return &push.Error{
			Exit:     push.ExitForNow,
			Err:      fmt.Errorf("cannot reach %s: %w", opt.Address, network.Err),
			HintText: "is the server running, and is the address right?",
		}
	case push.MayPass(err):
		return &push.Error{Exit: push.ExitForNow, Err: err, HintText: "is the address right, and no proxy or login page in the way?"}
	}
	return err
}

func finished(s wire.Session) bool {
	switch s.State {
	case wire.Open, wire.Verifying, wire.Publishing:
		return false
	}
	return true
}

// document is v as JSON, for people and programs.
func document(v any) (string, error) {
	text, err := json.MarshalIndent(v, "", "  ")
	return string(text) + "\n", err
}

// orEmpty makes a list of none [] in JSON, not null.
func orEmpty(list []wire.Session) []wire.Session {
	if list == nil {
		return []wire.Session{}
	}
	return list
}
