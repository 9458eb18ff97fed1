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
	"time"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/hint"
	"github.com/lirios/ostree-upload/internal/wire"
)

// healthPatience is how long a server may take to say how it is.
const healthPatience = 5 * time.Second

// HealthCmd asks the server of this machine how it is: for a container, which has no
// other program that could.
type HealthCmd struct {
	Config  string `short:"c" default:"ostree-upload.yaml" env:"OSTREE_UPLOAD_CONFIG" placeholder:"FILE" help:"Configuration file of the server (${default})."`
	Address string `short:"a" placeholder:"ADDR" help:"Where the server listens, if it was told so by a flag."`
}

// Run prints ok, or what is wrong; that is exit code 1.
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
	ctx, cancel := context.WithTimeout(ctx, healthPatience)
	defer cancel()
	if err := askHealth(ctx, address, settings.TLS.Cert != ""); err != nil {
		return fmt.Errorf("the server at %s is not healthy: %w", address, err)
	}
	_, err = fmt.Fprintln(app.Stdout, "ok")
	return err
}

// askHealth asks for /healthz where a server that was told this address listens.
func askHealth(ctx context.Context, address string, secure bool) error {
	network, at := "tcp", loopback(address)
	if path, ok := config.SocketPath(address); ok {
		network, at, secure = "unix", path, false
	}
	scheme := "http"
	if secure {
		scheme = "https"
	}
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, at)
		},
		// #nosec G402 -- the certificate is for another name than that of this machine,
		// and nothing that is secret is said
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
	}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://localhost/healthz", nil)
	if err != nil {
		return err
	}
	res, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return hint.Add(err, "is the server running, and is this where it listens?")
	}
	defer res.Body.Close()
	return healthOf(res)
}

// healthOf is the error that an answer stands for.
func healthOf(res *http.Response) error {
	if res.StatusCode == http.StatusOK {
		return nil
	}
	var p wire.Problem
	if err := json.NewDecoder(io.LimitReader(res.Body, wire.MaxBody)).Decode(&p); err != nil || p.Detail == "" {
		return fmt.Errorf("it answers %s", res.Status)
	}
	return &p
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
