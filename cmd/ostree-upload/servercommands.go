// SPDX-License-Identifier: AGPL-3.0-or-later

package main

import (
	"context"

	"github.com/lirios/ostree-upload/internal/units"
)

// ReceiveCmd is the server. Flags win over the configuration file.
type ReceiveCmd struct {
	Config      string `short:"c" default:"ostree-upload.yaml" env:"OSTREE_UPLOAD_CONFIG" placeholder:"FILE" help:"Configuration file (${default})."`
	Repo        string `short:"r" env:"OSTREE_UPLOAD_REPO" placeholder:"REPO" help:"Repository to publish into."`
	State       string `placeholder:"DIR" help:"State folder (REPO/.ostree-upload)."`
	Address     string `short:"a" placeholder:"ADDR" help:"Where to listen: HOST:PORT, or unix:PATH (:8080)."`
	TLSCert     string `name:"tls-cert" placeholder:"FILE" help:"Certificate, for HTTPS."`
	TLSKey      string `name:"tls-key" placeholder:"FILE" help:"Key of the certificate."`
	TLSClientCA string `name:"tls-client-ca" placeholder:"FILE" help:"Authorities of the certificates that all clients have to show."`
	Init        bool   `help:"Create the repository, in archive mode, if there is none."`

	WaitLock units.Duration `default:"10s" placeholder:"DURATION" help:"How long to wait for the end of another server of the repository (${default})."`
}

// Run serves until a signal comes.
func (c *ReceiveCmd) Run(ctx context.Context, app *App) error { return c.serve(ctx, app) }

// repositoryFlags name a repository on this host.
type repositoryFlags struct {
	Config string `short:"c" default:"ostree-upload.yaml" env:"OSTREE_UPLOAD_CONFIG" placeholder:"FILE" help:"Configuration file (${default})."`
	Repo   string `short:"r" env:"OSTREE_UPLOAD_REPO" placeholder:"REPO" help:"Repository that is published into."`
	State  string `placeholder:"DIR" help:"State folder (REPO/.ostree-upload)."`

	Repository string `placeholder:"NAME" help:"Only this one of several repositories of the configuration."`
}

// CheckCmd compares the state folder, the journal and the repository, with the
// server stopped, or reads all objects of the repository.
type CheckCmd struct {
	repositoryFlags

	Repair  bool `help:"Repair what can be repaired safely: finish what a crash left, delete what does not verify."`
	Content bool `help:"Verify all objects of the repository instead, also while a server runs; push --repair mends what it finds."`
	JSON    bool `name:"json" help:"Print one JSON document."`
}

// Run prints what is wrong; anything is exit code 1.
func (c *CheckCmd) Run(ctx context.Context, app *App) error { return c.check(ctx, app) }

// PruneCmd removes what the configuration does not keep: by the server, if one runs.
type PruneCmd struct {
	repositoryFlags

	DryRun bool `help:"Only tell what would be removed."`
	JSON   bool `name:"json" help:"Print one JSON document."`
}

// Run prints what was removed.
func (c *PruneCmd) Run(ctx context.Context, app *App) error { return c.prune(ctx, app) }
