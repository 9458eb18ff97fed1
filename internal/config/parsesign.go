// SPDX-License-Identifier: AGPL-3.0-or-later

package config

import (
	"fmt"
	"strings"

	"gopkg.in/yaml.v3"
)

// Sign is what the server signs with, all that is there: the summary, and commits if
// Commits is set.
type Sign struct {
	GPG     GPG
	Ed25519 string   // a file of secret keys, as `ostree sign --keys-file` reads it; "" for none
	Command []string // a program that reads bytes and prints their signature; nil for none
	Commits bool
}

// GPG names keys in a GnuPG home.
type GPG struct {
	Homedir string // "": that of the user as which the server runs
	Keys    []string
}

// Any tells whether there is anything to sign with.
func (s *Sign) Any() bool { return len(s.GPG.Keys) > 0 || s.Ed25519 != "" || len(s.Command) > 0 }

// signForm has the keys of Sign.
type signForm struct {
	GPG struct {
		Homedir yaml.Node `yaml:"homedir"`
		Keys    yaml.Node `yaml:"keys"`
	} `yaml:"gpg"`
	Ed25519 struct {
		KeyFile yaml.Node `yaml:"key-file"`
	} `yaml:"ed25519"`
	Command yaml.Node `yaml:"command"`
	Commits yaml.Node `yaml:"commits"`
}

func (p *parser) sign(f *signForm, s *Sign) {
	p.text(&f.GPG.Homedir, "sign.gpg.homedir", &s.GPG.Homedir)
	s.GPG.Keys, _ = p.list(&f.GPG.Keys, "sign.gpg.keys", checkKeyID)
	if first := present(&f.GPG.Keys, &f.GPG.Homedir); first.Kind != 0 && len(s.GPG.Keys) == 0 {
		p.errorf(first, "sign.gpg.keys", "needs the fingerprint of at least one key")
	}
	p.text(&f.Ed25519.KeyFile, "sign.ed25519.key-file", &s.Ed25519)
	s.Command = p.command(&f.Command, "sign.command")
	parsed(p, &f.Commits, "sign.commits", &s.Commits, parseBool)
	if s.Commits && !s.Any() {
		p.errorf(&f.Commits, "sign.commits", "there is no key to sign with: name one with gpg, ed25519 or command beside it")
	}
}

// checkKeyID takes whatever gpg finds one secret key by, which a start checks.
func checkKeyID(s string) error {
	if strings.HasPrefix(s, "-") {
		return fmt.Errorf("%q is not the fingerprint of a GPG key, nor its ID", s)
	}
	return nil
}
