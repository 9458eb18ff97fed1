// SPDX-License-Identifier: AGPL-3.0-or-later

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/hint"
	"github.com/lirios/ostree-upload/internal/token"
	"github.com/lirios/ostree-upload/internal/units"
)

// GentokenCmd makes a token, adds its hash to the configuration file and
// prints it, alone, on stdout: TOKEN=$(ostree-upload gentoken).
type GentokenCmd struct {
	Config     string          `short:"c" default:"ostree-upload.yaml" env:"OSTREE_UPLOAD_CONFIG" placeholder:"FILE" help:"Configuration file to add the token to; created if missing (default: ${default})."`
	Name       string          `placeholder:"NAME" help:"Name of the token in logs and listings (default: a random one)."`
	Ref        []string        `sep:"none" placeholder:"GLOB" help:"Refs that it may push: * stops at /, ** does not; repeatable (default: all)."`
	Scope      []string        `placeholder:"SCOPE" help:"What it may do: ${scopes}; repeatable (default: push)."`
	Expires    *units.Duration `placeholder:"DURATION" help:"How long it is valid, such as 12h or 90d (default: without end)."`
	Repository []string        `placeholder:"NAME" help:"With several repositories in the configuration: one that it may be used for; repeatable (default: all)."`
	Replace    bool            `help:"Give the token --name another secret: it keeps its sessions and, unless given, refs, scopes, repositories and time of validity."`
	Overlap    *units.Duration `placeholder:"DURATION" help:"With --replace: how long the secret that it had may still be used, such as 24h (default: not at all)."`
}

// Run makes the token.
func (c *GentokenCmd) Run(_ context.Context, app *App) error {
	var expires time.Duration
	if c.Expires != nil {
		if expires = time.Duration(*c.Expires); expires <= 0 {
			return usage("--expires needs a time, such as 90d; leave it out for a token that does not expire")
		}
	}
	if c.Scope != nil && len(c.Scope) == 0 {
		return usage("--scope needs a scope: %s", strings.Join(token.Scopes, ", "))
	}
	if c.Replace && c.Name == "" {
		return usage("--replace needs the --name of the token")
	}
	if c.Overlap != nil && !c.Replace {
		return usage("--overlap goes with --replace: it is for the secret that is replaced")
	}
	plaintext, token := token.Generate(token.Options{
		Name:    c.Name,
		Refs:    c.Ref,
		Scopes:  c.Scope,
		Expires: expires,

		Repositories: c.Repository,
	})
	if err := token.Check(); err != nil {
		return badUsage{err}
	}
	_, missing := os.Stat(c.Config)
	if err := c.write(&token); err != nil {
		return inForce(err)
	}
	did := "added token %s to"
	if c.Replace {
		did = "replaced token %s in"
	}
	if _, err := fmt.Fprintln(app.Stdout, plaintext); err != nil {
		return hint.Add(fmt.Errorf("print the token: %w", err), "nobody knows it now; make another: ostree-upload gentoken --config %s --replace --name %s", c.Config, token.Name)
	}
	fmt.Fprintf(app.Stderr, did+" %s (%s); it cannot be shown again\n", token.Name, c.Config, inWords(token))
	for _, earlier := range token.Previous {
		fmt.Fprintf(app.Stderr, "an earlier secret of it works until %s\n", earlier.Until.Format(time.RFC3339))
	}
	return warnUnreadable(app, c.Config, errors.Is(missing, fs.ErrNotExist))
}

// write adds t to the file, or puts it in the place of the one of its name.
func (c *GentokenCmd) write(t *token.Token) (err error) {
	if !c.Replace {
		return config.AddToken(c.Config, *t)
	}
	if c.Scope == nil {
		t.Scopes = nil
	}
	var overlap time.Duration
	if c.Overlap != nil {
		overlap = time.Duration(*c.Overlap)
	}
	*t, err = config.ReplaceToken(c.Config, *t, overlap)
	return err
}

// inWords says what a token may do and for how long.
func inWords(t token.Token) string {
	words := "scopes " + strings.Join(t.Scopes, ", ")
	if t.Refs == nil {
		words += ", all refs"
	} else {
		words += ", refs " + strings.Join(*t.Refs, " ")
	}
	if t.Repositories != nil {
		words += ", repositories " + strings.Join(*t.Repositories, " ")
	}
	if !t.Expires.IsZero() {
		words += ", until " + t.Expires.Format(time.RFC3339)
	}
	return words
}
