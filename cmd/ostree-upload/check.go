// SPDX-License-Identifier: AGPL-3.0-or-later

package main

import "context"

// CheckCmd compares the state folder, the journal and the repository, with the
// server stopped.
type CheckCmd struct {
	Config string `short:"c" default:"ostree-upload.yaml" env:"OSTREE_UPLOAD_CONFIG" placeholder:"FILE" help:"Configuration file (${default})."`
	Repo   string `short:"r" env:"OSTREE_UPLOAD_REPO" placeholder:"REPO" help:"Repository that is published into."`
	State  string `placeholder:"DIR" help:"State folder (REPO/.ostree-upload)."`
	Repair bool   `help:"Repair what can be repaired safely: finish what a crash left, delete what does not verify."`
	JSON   bool   `name:"json" help:"Print one JSON document."`
}

// Run prints what is wrong; anything is exit code 1.
func (c *CheckCmd) Run(ctx context.Context, app *App) error { return c.check(ctx, app) }
