// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/lirios/ostree-upload/internal/client"
	"github.com/lirios/ostree-upload/test/site"
)

// A host is the production host, with its server, and what those who push know of it.
type host struct {
	binary  string // ostree-upload
	folder  string // everything is below it
	server  *site.Receiver
	address string            // URL
	tokens  map[string]string // plaintexts, by name
}

// tokens are those of the host, with how they are made.
var tokens = []struct {
	name  string
	flags []string
}{
	{"operator", []string{"--scope=admin"}},
	{"ci-os", []string{"--scope=push", "--scope=force", "--ref=os/**", "--expires=365d"}},
	{"ci-apps", []string{"--scope=push", "--ref=apps/**", "--ref=runtime/**", "--expires=12d"}},
	{"release", []string{"--scope=promote", "--scope=publish", "--scope=delete", "--ref=os/*/stable", "--ref=os/*/testing"}},
	{"night-watch", []string{"--scope=sessions"}},
	{"prometheus", []string{"--scope=metrics"}},
	{"former-contractor", []string{"--scope=push", "--ref=apps/org.example.Former/**", "--expires=1s"}},
}

const (
	configuration = `# The production host of the page's demo.
repo: production
page: true
session-ttl: 2s # until one has expired
limits: {min-free-space: 0, max-sessions: 0}
keep:
  - {refs: ["**"], depth: 4}
check-command: [check-build]
after:
  - command: [purge-cdn]
    refs: ["apps/**"]
`
	check = `#!/bin/sh
case "$OSTREE_REFS" in
*broken*)
    echo "os/x86_64/kernel-broken: /usr/lib/modules/7.1.0/initramfs.img is missing, so that no machine would start; build it with dracut" >&2
    exit 1 ;;
esac
`
	purge = `#!/bin/sh
echo "cdn.example.org answers 503: the cache is not purged" >&2
exit 1
`
)

func newHost(binary string) (*host, error) {
	binary, err := filepath.Abs(binary)
	if err != nil {
		return nil, err
	}
	folder, err := os.MkdirTemp("", "ostree-upload-page-")
	return &host{binary: binary, folder: folder, tokens: map[string]string{}}, err
}

// start makes the repository and the tokens, and returns once the server listens.
func (h *host) start(ctx context.Context, address string) error {
	for name, text := range map[string]string{"check-build": check, "purge-cdn": purge} {
		if err := os.WriteFile(h.path(name), []byte(text), 0o755); err != nil {
			return err
		}
	}
	if err := os.WriteFile(h.path("ostree-upload.yaml"), []byte(configuration), 0o600); err != nil {
		return err
	}
	if _, err := h.output(ctx, "ostree", "init", "--repo=production", "--mode=archive"); err != nil {
		return err
	}
	for _, t := range tokens {
		plain, err := h.output(ctx, h.binary, append([]string{"gentoken", "--name=" + t.name}, t.flags...)...)
		if err != nil {
			return err
		}
		h.tokens[t.name] = plain
	}
	server, err := site.StartProgram(h.binary, h.folder, append(os.Environ(), "PATH="+h.folder+string(filepath.ListSeparator)+os.Getenv("PATH")), "--address="+address)
	if err != nil {
		return err
	}
	h.server, h.address = server, "http://"+server.Address
	return nil
}

// remember has idle sessions stay from now on.
func (h *host) remember() error {
	file := h.path("ostree-upload.yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	return os.WriteFile(file, bytes.Replace(text, []byte("session-ttl: 2s"), []byte("session-ttl: 168h"), 1), 0o600)
}

func (h *host) end() (err error) {
	if h.server != nil {
		err = h.server.Stop()
	}
	return errors.Join(err, os.RemoveAll(h.folder))
}

func (h *host) path(name string) string { return filepath.Join(h.folder, name) }

// as is the API with a token.
func (h *host) as(token string) (*client.Client, error) {
	return client.New(h.address, h.tokens[token])
}
