// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/lirios/ostree-upload/internal/fsck"
	"github.com/lirios/ostree-upload/internal/hint"
	"github.com/lirios/ostree-upload/internal/page"
	"github.com/lirios/ostree-upload/internal/server"
	"github.com/lirios/ostree-upload/internal/units"
)

// checked is a repository, and what was found in it or why it could not be checked.
type checked struct {
	server.Options
	report *server.Report
	sound  string // what it says if that is nothing
	err    error
}

// check compares everything, or reads all objects, and prints what is wrong.
func (c *CheckCmd) check(ctx context.Context, app *App) error {
	if c.Content && c.Repair {
		return usage("--content finds what push --repair mends: leave out --repair")
	}
	list, err := c.options(app)
	if err != nil {
		return err
	}
	if c.Repair && list[0].Configuration == "" {
		return hint.Add(errors.New("--repair needs the configuration file"), "name it with --config")
	}
	look, next := c.compare, "ostree-upload check --repair repairs what is safe to repair; what the repository lacks, push --repair brings, and check --content finds all of it"
	if c.Content {
		look, next = c.read, "ostree-upload push --repair REF, from a build repository that has the commits whole, mends what belongs to a ref; with --history also in older commits"
	}
	var all []checked
	for _, opt := range list {
		r := look(ctx, app, opt)
		r.err = named(opt.Name, r.err)
		all = append(all, r)
	}
	return errors.Join(c.print(app, all), found(all, next))
}

// compare compares the state folder, the journal and the repository.
func (c *CheckCmd) compare(ctx context.Context, _ *App, opt server.Options) checked {
	report, err := server.Check(ctx, opt, c.Repair)
	r := checked{opt, report, "journal, state folder and repository agree", err}
	if err == nil && !report.Used {
		r.sound = fmt.Sprintf("there is no journal in %s: nothing was ever received here", opt.State)
	}
	return r
}

// read reads all objects of the repository.
func (c *CheckCmd) read(ctx context.Context, app *App, opt server.Options) checked {
	var seen *fsck.Progress
	stop := func() {}
	report, err := server.CheckContent(ctx, opt, func(p *fsck.Progress) {
		seen = p
		stop = lines(app.Stderr, func() string { return verified(p) }, plainEvery)
	})
	stop()
	r := checked{opt, report, "", err}
	if err == nil {
		which := "all"
		if len(report.Notes) > 0 { // such as damaged ones
			which = "all that refs need"
		}
		r.sound = verified(seen) + ": " + which + " are what their names say"
	}
	return r
}

// verified says how far the check of all objects is.
func verified(p *fsck.Progress) string {
	return fmt.Sprintf("verified %s of %s objects, %s",
		units.Thousands(p.Objects.Load()), units.Thousands(p.Total.Load()), units.Amount(p.Bytes.Load()))
}

func (c *CheckCmd) print(app *App, list []checked) (err error) {
	if c.JSON && list[0].Name == "" && list[0].err != nil {
		return nil // its document is that of any command that failed
	}
	if c.JSON {
		text, err := page.JSON(documentOf(list))
		if err == nil {
			_, err = io.WriteString(app.Stdout, text)
		}
		return err
	}
	for i := range list {
		err = errors.Join(err, list[i].print(app.Stdout))
	}
	return err
}

// documentOf is what --json prints: that of the one repository, or of each by its name.
func documentOf(list []checked) any {
	if list[0].Name == "" {
		return list[0].document()
	}
	all := map[string]any{}
	for i := range list {
		all[list[i].Name] = list[i].document()
	}
	return map[string]any{"repositories": all}
}

func (r *checked) document() map[string]any {
	if r.err != nil { // of one of several
		return map[string]any{"error": r.err.Error()}
	}
	return map[string]any{"used": r.report.Used, "findings": append([]string{}, r.report.Findings...), "notes": append([]string{}, r.report.Notes...)}
}

// print prints what was found, each line with the name of the repository if it has one.
func (r *checked) print(w io.Writer) (err error) {
	if r.err != nil {
		return nil // found returns it
	}
	line := func(format string, args ...any) {
		text := fmt.Sprintf(format, args...)
		if r.Name != "" {
			text = "repository " + r.Name + ": " + text
		}
		_, failed := fmt.Fprintln(w, text)
		err = errors.Join(err, failed)
	}
	for _, n := range r.report.Notes {
		line("note: %s", n)
	}
	for _, f := range r.report.Findings {
		line("finding: %s", f)
	}
	if len(r.report.Findings) == 0 {
		line("%s", r.sound)
	}
	return err
}

// found is an error if there are findings, or something could not be checked; next is what to do.
func found(list []checked, next string) error {
	var errs []error
	findings := 0
	for _, r := range list {
		errs = append(errs, r.err)
		if r.report != nil {
			findings += len(r.report.Findings)
		}
	}
	if findings > 0 {
		errs = append(errs, hint.Add(fmt.Errorf("%d findings", findings), "%s", next))
	}
	return errors.Join(errs...)
}
