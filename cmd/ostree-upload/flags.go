// SPDX-License-Identifier: AGPL-3.0-or-later

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/lirios/ostree-upload/internal/client"

	"github.com/lirios/ostree-upload/internal/hint"
	"github.com/lirios/ostree-upload/internal/push"
)

// badUsage is a flag that parses, but means nothing: exit code 2.
type badUsage struct{ error }

func (e badUsage) ExitCode() int { return push.ExitUsage }
func (e badUsage) Unwrap() error { return e.error }

func usage(format string, args ...any) error {
	return badUsage{fmt.Errorf(format, args...)}
}

// errNoAddress is what an empty OSTREE_UPLOAD_ADDRESS means, in a script most likely
// whose variable was not set: the default would be another server than it meant.
var errNoAddress = badUsage{hint.Add(errors.New("the address of the server is empty"), "give it in OSTREE_UPLOAD_ADDRESS or by --address, such as https://updates.example.org")}

// serverFlags are those of each command that speaks to a server.
type serverFlags struct {
	Address string `short:"a" default:"http://localhost:8080" env:"OSTREE_UPLOAD_ADDRESS" placeholder:"URL" help:"Server to speak to, or unix:PATH of its socket (${default})."`
	tokenFlags
	CAFile       string `name:"ca-file" env:"OSTREE_UPLOAD_CA_FILE" placeholder:"FILE" help:"Authorities to trust for HTTPS, in PEM, in place of the system's."`
	ClientCert   string `env:"OSTREE_UPLOAD_CLIENT_CERT" placeholder:"FILE" help:"Client certificate, in PEM; read again for each connection."`
	ClientKey    string `env:"OSTREE_UPLOAD_CLIENT_KEY" placeholder:"FILE" help:"Key of the client certificate (the same file)."`
	InsecureHTTP bool   `name:"insecure-http" env:"OSTREE_UPLOAD_INSECURE_HTTP" help:"Allow plain HTTP to another machine: whoever is on the way can read the token."`
}

// server is the server that the flags name, with the token. There may be no token: the
// server then refuses, and says how one gets a token.
func (f *serverFlags) server(ctx context.Context) (client.Options, error) {
	opt := client.Options{
		Address: f.Address, CAFile: f.CAFile, Cert: f.ClientCert, Key: f.ClientKey, InsecureHTTP: f.InsecureHTTP,
	}
	if f.Address == "" {
		return opt, errNoAddress
	}
	var err error
	opt.Token, opt.RenewToken, err = f.get(ctx, f.Address)
	return opt, err
}

// again are the flags to repeat when a command is given again for the same server,
// besides its address.
func (f *serverFlags) again() (flags []string) {
	flags = f.tokenFlags.again()
	for _, flag := range [][2]string{{"--ca-file", f.CAFile}, {"--client-cert", f.ClientCert}, {"--client-key", f.ClientKey}} {
		if flag[1] != "" {
			flags = append(flags, flag[0], flag[1])
		}
	}
	if f.InsecureHTTP {
		flags = append(flags, "--insecure-http")
	}
	return flags
}

// addressStays tells whether the address, of the environment, has a login: it is found
// there again, while a command that is printed must not have the password.
func (f *serverFlags) addressStays() bool {
	return f.Address == os.Getenv("OSTREE_UPLOAD_ADDRESS") && strings.Contains(f.Address, "@")
}
