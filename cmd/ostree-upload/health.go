// SPDX-License-Identifier: AGPL-3.0-or-later

package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/hint"
	"github.com/lirios/ostree-upload/internal/page"
	"github.com/lirios/ostree-upload/internal/wire"
)

// healthPatience is how long a server may take to say how it is.
const healthPatience = 5 * time.Second

// HealthCmd asks the server of this machine how it is: for a container, which has no
// other program that could.
type HealthCmd struct {
	Config  string `short:"c" default:"ostree-upload.yaml" env:"OSTREE_UPLOAD_CONFIG" placeholder:"FILE" help:"Configuration file of the server (${default})."`
	Address string `short:"a" placeholder:"ADDR" help:"Where the server listens, if it was told so by a flag."`

	Repository string `placeholder:"NAME" help:"Ask for this one of several repositories only."`

	ClientCert string `env:"OSTREE_UPLOAD_CLIENT_CERT" placeholder:"FILE" help:"Client certificate, in PEM, for a server with tls.client-ca."`
	ClientKey  string `env:"OSTREE_UPLOAD_CLIENT_KEY" placeholder:"FILE" help:"Key of the client certificate (the same file)."`
}

// Run prints ok, with those of several repositories that cannot be used, or what is wrong;
// that is exit code 1.
func (c *HealthCmd) Run(ctx context.Context, app *App) error {
	settings, err := config.Load(c.Config)
	if errors.Is(err, fs.ErrNotExist) {
		settings, err = config.Default(), nil
	}
	if err != nil {
		return err
	}
	address := cmp.Or(c.Address, settings.Address)
	if err := config.CheckAddress(address); err != nil {
		return usage("--address: %w", err)
	}
	down, err := c.ask(ctx, address, settings.TLS)
	if err != nil {
		return fmt.Errorf("the server at %s is not healthy: %w", address, err)
	}
	text := "ok"
	if len(down) > 0 {
		text += ", but of its repositories these cannot be used now: " + strings.Join(down, ", ")
	}
	_, err = fmt.Fprintln(app.Stdout, text)
	return err
}

// ask asks for /healthz where a server that was told this address listens. down are the
// repositories that cannot be used although others can.
func (c *HealthCmd) ask(ctx context.Context, address string, secure config.TLS) (down []string, err error) {
	transport, err := c.transport(address)
	if err != nil {
		return nil, err
	}
	defer transport.CloseIdleConnections()
	at, next := "localhost/healthz", "is the server running, and is this where it listens?"
	if c.Repository != "" {
		at = "localhost/" + url.PathEscape(c.Repository) + "/healthz"
	}
	scheme := "http://"
	if _, socket := config.SocketPath(address); !socket && secure.Cert != "" {
		scheme = "https://"
		if secure.ClientCA != "" && c.ClientCert == "" {
			next = "the server wants a client certificate: give --client-cert and --client-key"
		}
	}
	ctx, cancel := context.WithTimeout(ctx, healthPatience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+at, nil)
	if err != nil {
		return nil, err
	}
	res, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return nil, hint.Add(err, "%s", next)
	}
	defer res.Body.Close()
	return healthOf(res)
}

// transport reaches the server of an address, and shows it the client's certificate.
func (c *HealthCmd) transport(address string) (*http.Transport, error) {
	network, at := "tcp", loopback(address)
	if path, ok := config.SocketPath(address); ok {
		network, at = "unix", path
	}
	// #nosec G402 -- the certificate is for another name than that of this machine, and
	// nothing that is secret is said
	secure := &tls.Config{InsecureSkipVerify: true}
	if c.ClientCert != "" {
		pair, err := tls.LoadX509KeyPair(c.ClientCert, cmp.Or(c.ClientKey, c.ClientCert))
		if err != nil {
			return nil, fmt.Errorf("read the client certificate: %w", err)
		}
		secure.Certificates = []tls.Certificate{pair}
	}
	return &http.Transport{TLSClientConfig: secure, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, at)
	}}, nil
}

// healthOf is what an answer says: the error that it stands for, or which repositories are
// down.
func healthOf(res *http.Response) (down []string, err error) {
	var h wire.Health
	err = json.NewDecoder(io.LimitReader(res.Body, wire.MaxBody)).Decode(&h)
	switch {
	case res.StatusCode == http.StatusOK: // of one repository it is no document
		for name, state := range h.Repositories {
			if state != wire.RepositoryOK {
				down = append(down, page.Printable(name))
			}
		}
		slices.Sort(down)
		return down, nil
	case err != nil || h.Problem == nil || h.Detail == "":
		return nil, fmt.Errorf("it answers %s", res.Status)
	}
	return nil, h.Problem
}

// loopback is an address at which this machine reaches a port that is open for all.
func loopback(address string) string {
	host, port, err := net.SplitHostPort(address)
	ip := net.ParseIP(host)
	switch {
	case err != nil:
		return address // CheckAddress has refused it
	case host == "" || ip.Equal(net.IPv4zero):
		host = "127.0.0.1"
	case ip.Equal(net.IPv6unspecified):
		host = "::1"
	}
	return net.JoinHostPort(host, port)
}
