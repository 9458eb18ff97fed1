// SPDX-License-Identifier: AGPL-3.0-or-later

package config

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"gopkg.in/yaml.v3"

	"github.com/lirios/ostree-upload/internal/token"
)

// Policy says how many of which keys have to have signed the commit that a ref is moved
// to. A ref that several match has to satisfy each.
type Policy struct {
	Name       string   // "policy 1", as it stands in the list
	Refs       []string // globs, one of which a ref has to match; nil: all refs
	GPGKeyring string   // a file of public keys; "" for none
	Ed25519    []ed25519.PublicKey
	Require    int
	History    bool // the same holds for each commit below it that a session brings
}

// Concerns tells whether the policy holds for a ref.
func (p *Policy) Concerns(ref string) bool {
	return p.Refs == nil || slices.ContainsFunc(p.Refs, func(g string) bool { return token.MatchGlob(g, ref) })
}

// policyForm is one entry of the list policy.
type policyForm struct {
	Refs       yaml.Node `yaml:"refs"`
	GPGKeyring yaml.Node `yaml:"gpg-keyring"`
	Ed25519    yaml.Node `yaml:"ed25519"`
	Require    yaml.Node `yaml:"require"`
	History    yaml.Node `yaml:"history"`
}

func (p *parser) policies(forms []policyForm) (policies []Policy) {
	for i := range forms {
		policies = append(policies, p.policy(&forms[i], fmt.Sprintf("policy %d", i+1)))
	}
	return policies
}

// policy reads one entry; what is faulty in it stays empty.
func (p *parser) policy(f *policyForm, key string) Policy {
	faults := len(p.faults)
	out := Policy{Name: key, Require: 1}
	p.policyRefs(&f.Refs, key+": refs", &out)
	p.text(&f.GPGKeyring, key+": gpg-keyring", &out.GPGKeyring)
	out.Ed25519 = p.publicKeys(&f.Ed25519, key+": ed25519")
	p.count(&f.Require, key+": require", &out.Require)
	parsed(p, &f.History, key+": history", &out.History, parseBool)
	if len(p.faults) > faults {
		return out
	}
	first := present(&f.Require, &f.Ed25519, &f.GPGKeyring, &f.Refs, &f.History)
	switch {
	case out.GPGKeyring == "" && len(out.Ed25519) == 0:
		p.errorf(first, key, "%w", errors.New("names no key, so nothing could ever be published: give it gpg-keyring or ed25519"))
	case out.Require == 0:
		p.errorf(&f.Require, key+": require", "%w", errors.New("must be at least 1"))
	case out.GPGKeyring == "" && out.Require > len(out.Ed25519):
		p.errorf(&f.Require, key+": require", "wants %d keys to have signed, and there are only %d", out.Require, len(out.Ed25519))
	}
	return out
}

func (p *parser) policyRefs(n *yaml.Node, key string, into *Policy) {
	refs, there := p.list(n, key, token.CheckGlob)
	if !there {
		return
	}
	if into.Refs = refs; len(refs) == 0 {
		p.errorf(n, key, "%w", errors.New("concerns no ref; leave the key out for all refs"))
	}
}

// publicKeys reads a list of ed25519 keys, each of which counts once.
func (p *parser) publicKeys(n *yaml.Node, key string) (keys []ed25519.PublicKey) {
	words, _ := p.list(n, key, func(s string) error { _, err := parsePublicKey(s); return err })
	for _, word := range words {
		k, err := parsePublicKey(word)
		if err != nil {
			continue // it was reported
		}
		if slices.ContainsFunc(keys, func(other ed25519.PublicKey) bool { return k.Equal(other) }) {
			p.errorf(n, key, "the key %s is given twice", word)
		}
		keys = append(keys, k)
	}
	return keys
}

func parsePublicKey(s string) (ed25519.PublicKey, error) {
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil || len(b) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("%.100q is not an ed25519 public key: 32 bytes as base64, as `ostree sign` reads them", s)
	}
	return b, nil
}

func parseBool(s string) (bool, error) {
	v, err := strconv.ParseBool(s)
	if err != nil || s != strconv.FormatBool(v) {
		return false, fmt.Errorf("%q is neither true nor false", s)
	}
	return v, nil
}
