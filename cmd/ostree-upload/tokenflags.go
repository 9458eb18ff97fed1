// SPDX-License-Identifier: AGPL-3.0-or-later

package main

import (
	"context"
	"errors"
	"os"

	"github.com/lirios/ostree-upload/internal/client"
	"github.com/lirios/ostree-upload/internal/hint"
)

// tokenFlags say where the token comes from.
type tokenFlags struct {
	Token        string `short:"t" env:"OSTREE_UPLOAD_TOKEN" placeholder:"TOKEN" help:"Token; other users can see it: OSTREE_UPLOAD_TOKEN or --token-file is safer."`
	TokenFile    string `env:"OSTREE_UPLOAD_TOKEN_FILE" placeholder:"FILE" help:"File that holds the token; read again when the token is refused or about to expire."`
	TokenCommand string `env:"OSTREE_UPLOAD_TOKEN_COMMAND" placeholder:"COMMAND" help:"Command that prints the token, run by sh; again when the token is refused or about to expire."`
	Audience     string `placeholder:"AUDIENCE" help:"In GitHub Actions: push with an ID token of the job, for this audience (the server's address)."`
}

// get gets the token for the server at an address. The source gets another one later; it
// is nil if there will be none. Without any token, both are empty.
func (f *tokenFlags) get(ctx context.Context, address string) (token string, source client.TokenSource, err error) {
	from, err := f.origin()
	if err != nil {
		return "", nil, err
	}
	if from.github {
		if from.source, err = f.idToken(address); err != nil {
			return "", nil, err
		}
	}
	if from.source == nil {
		return from.value, nil, nil
	}
	token, err = from.source(ctx)
	return token, from.source, interruptedOr(ctx, err)
}

// An origin of a token is a flag or, where kong has found its value, a variable.
type origin struct {
	flag   string
	env    string // "" if it is the flag that was given
	value  string // "" if it is not given
	source client.TokenSource
	github bool // the source is GitHub
}

// origin is where the token comes from: a flag before a variable, and what is made for
// this program before what a CI gives each job.
func (f *tokenFlags) origin() (origin, error) {
	var flags, variables []origin
	for _, o := range []origin{
		{flag: "--token", env: "OSTREE_UPLOAD_TOKEN", value: f.Token},
		{flag: "--token-command", env: "OSTREE_UPLOAD_TOKEN_COMMAND", value: f.TokenCommand, source: client.TokenCommand(f.TokenCommand)},
		{flag: "--token-file", env: "OSTREE_UPLOAD_TOKEN_FILE", value: f.TokenFile, source: client.TokenFile(f.TokenFile)},
		{flag: "--audience", value: f.Audience, github: true},
	} {
		switch {
		case o.value == "":
		case o.env != "" && o.value == os.Getenv(o.env):
			variables = append(variables, o)
		default:
			o.env = ""
			flags = append(flags, o)
		}
	}
	switch {
	case len(flags) > 1:
		return origin{}, usage("%s and %s do not go together", flags[0].flag, flags[1].flag)
	case len(flags) == 1:
		return flags[0], nil
	case len(variables) > 0:
		return variables[len(variables)-1], nil // a file before a command, before the token itself
	}
	given := os.Getenv("OSTREE_UPLOAD_ID_TOKEN")
	return origin{value: given, github: given == "" && os.Getenv("ACTIONS_ID_TOKEN_REQUEST_URL") != ""}, nil
}

// again is the flag to repeat for the same token. The token itself is no part of a command
// that is printed, nor is a command of a variable, as CIs hide what is in these: it is
// found there again.
func (f *tokenFlags) again() []string {
	from, err := f.origin()
	if err != nil || from.flag == "" || from.flag == "--token" || from.flag == "--token-command" && from.env != "" {
		return nil
	}
	return []string{from.flag, from.value}
}

// idToken is GitHub as the source of ID tokens for the server at an address.
func (f *tokenFlags) idToken(address string) (client.TokenSource, error) {
	github := client.GitHub{
		URL: os.Getenv("ACTIONS_ID_TOKEN_REQUEST_URL"), Token: os.Getenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN"), Audience: f.Audience,
	}
	if github.URL == "" {
		return nil, badUsage{hint.Add(errors.New("--audience is for a job in GitHub Actions that may get an ID token"),
			"give the job `permissions: {id-token: write}`, or leave --audience out")}
	}
	var err error
	if github.Audience == "" {
		github.Audience, err = client.Audience(address)
	}
	return github.IDToken, err
}
