// SPDX-License-Identifier: AGPL-3.0-or-later

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/lirios/ostree-upload/internal/client"
	"github.com/lirios/ostree-upload/internal/hint"
	"github.com/lirios/ostree-upload/internal/page"
	"github.com/lirios/ostree-upload/internal/push"
	"github.com/lirios/ostree-upload/internal/wire"
)

// SessionsPublishCmd publishes one that is held.
type SessionsPublishCmd struct {
	ID string `arg:"" help:"The session's ID."`
}

// SessionsRejectCmd rejects one that is held.
type SessionsRejectCmd struct {
	ID     string `arg:"" help:"The session's ID."`
	Reason string `required:"" placeholder:"TEXT" help:"Why, for whoever pushed it."`
}

// Run publishes the session and waits for the outcome.
func (c *SessionsPublishCmd) Run(ctx context.Context, app *App, opt *SessionsCmd) error {
	s, err := opt.decide(ctx, func(api *client.Client) (wire.Session, error) {
		s, err := api.Publish(ctx, c.ID)
		for err == nil && (s.State == wire.Verifying || s.State == wire.Publishing) {
			s, err = api.Session(ctx, c.ID, wire.MaxWait/2)
		}
		return s, err
	})
	if err != nil {
		return err
	}
	if s.State != wire.Published {
		return notPublished(s)
	}
	return opt.tell(app, s, "published")
}

// notPublished is the error of a session that is not published although it was to be.
func notPublished(s wire.Session) error {
	e := &push.Error{Exit: push.ExitFailed, Code: s.Error, Err: fmt.Errorf("session %s is %s: %s", s.ID, s.State, page.Printable(s.Detail))}
	if client.IsRefusal(s.Error) {
		e.Exit = push.ExitRefused
	}
	switch {
	case s.Error == wire.RefMoved || s.Error == wire.NotFastForward:
		e.HintText = "rebuild on top of the server's commit and push that; reject this one: ostree-upload sessions reject --reason TEXT " + s.ID
	case s.State == wire.Held && s.Error == wire.Forbidden:
		e.HintText = fmt.Sprintf("if token %s is to stay without that right, hand the session over to another one: ostree-upload sessions chown %s NAME, by a token of scope sessions; then publish it again", page.Printable(s.Token), s.ID)
	case s.State == wire.Held:
		e.HintText = "publish it again when that is mended"
	}
	return e
}

// Run rejects the session.
func (c *SessionsRejectCmd) Run(ctx context.Context, app *App, opt *SessionsCmd) error {
	s, err := opt.decide(ctx, func(api *client.Client) (wire.Session, error) { return api.Reject(ctx, c.ID, c.Reason) })
	if err != nil {
		return err
	}
	return opt.tell(app, s, "rejected")
}

// decide asks the server to do something with a session.
func (opt *SessionsCmd) decide(ctx context.Context, ask func(*client.Client) (wire.Session, error)) (wire.Session, error) {
	if opt.State != "" {
		return wire.Session{}, badUsage{hint.Add(errors.New("--state only reads: without its server no session can be published, rejected or handed over"), "start the server and do it there")}
	}
	api, err := opt.client(ctx)
	if err != nil {
		return wire.Session{}, err
	}
	defer api.Close()
	ctx, stop := context.WithTimeout(ctx, decideTime)
	defer stop()
	s, err := ask(api)
	if err != nil {
		return s, interruptedOr(ctx, err)
	}
	return s, nil
}

// previewURL is where clients find a preview: below the address of the server, as it was
// given. One with a password, and a socket, are not repeated.
func previewURL(address, path string) string {
	path = page.Printable(path)
	if strings.Contains(address, "@") || strings.HasPrefix(address, "unix:") {
		return path
	}
	return strings.TrimRight(address, "/") + "/" + path
}

// decideTime bounds how long the outcome is waited for.
const decideTime = time.Hour

// tell prints what was done with a session.
func (opt *SessionsCmd) tell(app *App, s wire.Session, what string) (err error) {
	text := fmt.Sprintf("%s %s\n", what, page.Printable(s.ID))
	if opt.JSON {
		if text, err = page.JSON(whole(s).Sessions[0]); err != nil {
			return err
		}
	}
	_, err = io.WriteString(app.Stdout, text)
	return err
}
