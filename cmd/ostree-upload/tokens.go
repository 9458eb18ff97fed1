// SPDX-License-Identifier: AGPL-3.0-or-later

package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/hint"
	"github.com/lirios/ostree-upload/internal/lastuse"
	"github.com/lirios/ostree-upload/internal/page"
	"github.com/lirios/ostree-upload/internal/token"
)

// TokensCmd lists and revokes the tokens of a configuration file, on the server's
// host. It asks no server, so it works with the server down.
type TokensCmd struct {
	Config string `short:"c" default:"ostree-upload.yaml" env:"OSTREE_UPLOAD_CONFIG" placeholder:"FILE" help:"Configuration file that holds the tokens (${default})."`

	List   TokensListCmd   `cmd:"" default:"withargs" help:"List the tokens: what they may do, and when they were last used."`
	Revoke TokensRevokeCmd `cmd:"" help:"Take tokens away: within a second the server refuses them, also in the middle of an upload."`
}

// TokensListCmd lists them.
type TokensListCmd struct {
	Repo  string `short:"r" env:"OSTREE_UPLOAD_REPO" placeholder:"REPO" help:"Repository that the server publishes into, if its configuration does not say it."`
	State string `placeholder:"DIR" help:"State folder of the server, which knows when tokens were last used (REPO/.ostree-upload)."`
	JSON  bool   `name:"json" help:"Print one JSON document."`
}

// TokensRevokeCmd takes some away.
type TokensRevokeCmd struct {
	Names []string `arg:"" name:"name" help:"Name of a token; of several names all are revoked or none."`
}

// Run prints the list.
func (c *TokensListCmd) Run(app *App, opt *TokensCmd) error {
	settings, err := config.Load(opt.Config)
	if err != nil {
		return inForce(err)
	}
	if err := oneOnly(settings, c.Repo, c.State); err != nil {
		return err
	}
	settings.Repo, settings.State = cmp.Or(c.Repo, settings.Repo), cmp.Or(c.State, settings.State)
	if err := placed(settings); err != nil {
		return err
	}
	used, err := lastUses(settings)
	now := time.Now()
	list := page.TokenList{List: token.NewList(settings.Tokens, settings.OIDC, used, now, func(string) bool { return true })}
	if err != nil {
		list.Unknown = err.Error()
		fmt.Fprintf(app.Stderr, "it is not known when tokens were last used: %s\n", page.Text(err.Error()))
	}
	text := page.Tokens(list, now)
	if c.JSON {
		if text, err = page.JSON(list); err != nil {
			return err
		}
	}
	_, err = io.WriteString(app.Stdout, text)
	return err
}

// placed reports what the only repository lacks to be found, after the flags.
func placed(s *config.Config) error {
	if s.Repositories != nil {
		return nil // the configuration was checked
	}
	return s.Repository.Check()
}

// lastUses is when each token was last used, for whichever repository. The error tells
// of those for which that is not known.
func lastUses(s *config.Config) (map[string]time.Time, error) {
	all := map[string]time.Time{}
	var errs []error
	for _, r := range s.Served() {
		used, err := lastUse(r.StateFolder())
		if err != nil && r.Name != "" {
			err = fmt.Errorf("repository %s: %w", r.Name, err)
		}
		errs = append(errs, err)
		for name, at := range used {
			if at.After(all[name]) {
				all[name] = at
			}
		}
	}
	return all, errors.Join(errs...)
}

// lastUse is when each token was last used for one repository.
func lastUse(state string) (map[string]time.Time, error) {
	used, err := lastuse.Read(state)
	if errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("%w; run this as the owner of the repository, or as root", err)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return used, err
	}
	if _, err := os.Stat(state); err == nil {
		return nil, nil // nobody has used any yet
	}
	if whole, err := filepath.Abs(state); err == nil {
		state = whole
	}
	return nil, fmt.Errorf("there is no state folder %s; name the server's repository with --repo, or its state folder with --state", state)
}

// oneOnly refuses flags that name the folders of one repository, where the configuration
// names several.
func oneOnly(s *config.Config, repo, state string) error {
	if s.Repositories == nil || repo == "" && state == "" {
		return nil
	}
	return usage("--repo and --state (and OSTREE_UPLOAD_REPO) are for one repository, and the configuration names several: set their folders there")
}

// inForce adds to a fault of the file what it means for a server that runs.
func inForce(err error) error {
	if errors.As(err, new(*config.FaultError)) {
		return hint.Add(err, "put the file right first; until then a running server goes on with the tokens that it read before")
	}
	return err
}

// Run takes them away.
func (c *TokensRevokeCmd) Run(app *App, opt *TokensCmd) error {
	left, err := config.RevokeTokens(opt.Config, c.Names...)
	if err != nil {
		return inForce(err)
	}
	slices.Sort(c.Names)
	for _, name := range slices.Compact(c.Names) {
		if _, err := fmt.Fprintf(app.Stdout, "revoked token %s\n", name); err != nil {
			return err
		}
	}
	if left == 0 {
		fmt.Fprintf(app.Stderr, "warning: %s has no token any more, so nobody can push\n", opt.Config)
	}
	return warnUnreadable(app, opt.Config, false)
}

// warnUnreadable tells who cannot read the configuration: a server that runs as that
// user goes on with what it read before.
func warnUnreadable(app *App, path string, made bool) error {
	warning, err := config.Entrust(path, made)
	if warning != "" {
		fmt.Fprintf(app.Stderr, "warning: %s\n", warning)
	}
	return err
}
