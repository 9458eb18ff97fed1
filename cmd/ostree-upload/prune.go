// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/lirios/ostree-upload/internal/hint"
	"github.com/lirios/ostree-upload/internal/page"
	"github.com/lirios/ostree-upload/internal/server"
	"github.com/lirios/ostree-upload/internal/wire"
)

// prune prunes and prints what was removed, also if that ends with an error.
func (c *PruneCmd) prune(ctx context.Context, app *App) error {
	list, err := c.options(app)
	if err != nil {
		return err
	}
	if list[0].Configuration == "" && !c.DryRun {
		return hint.Add(errors.New("there is no configuration file at "+c.Config+", which says what is kept"), "name it with --config")
	}
	all := map[string]*wire.Pruned{}
	for _, opt := range list {
		report, failed := server.Prune(ctx, opt, c.DryRun)
		if report != nil && (failed == nil || report.Commits+report.Objects > 0) {
			report.Refs = append([]wire.PrunedRef{}, report.Refs...)
			all[opt.Name] = report
			failed = errors.Join(failed, c.print(app, opt.Name, report))
		}
		err = errors.Join(err, named(opt.Name, failed))
	}
	if c.JSON {
		err = errors.Join(err, printPruned(app, all))
	}
	if err != nil {
		return interruptedOr(ctx, err)
	}
	return nil
}

// print prints what was removed of a repository, for people.
func (c *PruneCmd) print(app *App, repository string, p *wire.Pruned) error {
	if c.JSON {
		return nil // all are in one document
	}
	text := page.Pruned(p)
	if repository != "" {
		text = fmt.Sprintf("repository %s:\n%s", repository, text)
	}
	_, err := io.WriteString(app.Stdout, text)
	return err
}

// printPruned prints the document of the one repository, or of each by its name.
func printPruned(app *App, all map[string]*wire.Pruned) error {
	if len(all) == 0 {
		return nil
	}
	var document any = map[string]any{"repositories": all}
	if one := all[""]; one != nil {
		document = one
	}
	text, err := page.JSON(document)
	if err == nil {
		_, err = io.WriteString(app.Stdout, text)
	}
	return err
}
