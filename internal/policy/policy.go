// SPDX-License-Identifier: AGPL-3.0-or-later

// Package policy counts the keys that have signed a commit.
//
//   - A key counts if it may sign now: one that has expired or is revoked by now does not,
//     whenever it signed.
//   - A key counts once, however often it signed, and with whichever of its subkeys.
//   - What a commit's signatures cost to verify is bounded, whoever made them.
//
// Keyrings are read anew each time. Keys serve one goroutine.
package policy

import (
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"time"

	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/gvariant"
)

// Keys are those that count for a policy.
type Keys struct {
	config.Policy
	gpg openpgp.EntityList
}

// Load reads the keys of a policy. It fails if they could never be enough.
func Load(p config.Policy) (*Keys, error) {
	k := &Keys{Policy: p}
	if p.GPGKeyring != "" {
		var err error
		if k.gpg, err = readKeyring(p.GPGKeyring); err != nil {
			return nil, fmt.Errorf("%s: gpg-keyring: %w", p.Name, err)
		}
	}
	if n := len(k.gpg) + len(p.Ed25519); n < p.Require {
		return nil, fmt.Errorf("%s: require: wants %d keys to have signed, and there are only %d", p.Name, p.Require, n)
	}
	return k, nil
}

// LackingError says that too few keys have signed a commit.
type LackingError struct {
	Policy     string
	Good, Want int
	Bad        []string // why signatures do not count, the first few
	More       int      // how many more do not
}

func (e *LackingError) Error() string {
	text := fmt.Sprintf("it has %d good %s of the %d that %s requires", e.Good, plural(e.Good, "signature"), e.Want, e.Policy)
	if e.Want > 1 {
		text += ", each by another key"
	}
	if len(e.Bad) == 0 {
		return text
	}
	text += ": " + strings.Join(e.Bad, "; ")
	if e.More > 0 {
		text += fmt.Sprintf("; and %d more do not count", e.More)
	}
	return text
}

func plural(n int, word string) string {
	if n == 1 {
		return word
	}
	return word + "s"
}

// Check is a *LackingError if too few of the keys have signed a commit, of which meta is
// the detached metadata.
func (k *Keys) Check(commit, meta []byte, now time.Time) error {
	c := &count{keys: k, commit: commit, now: now, good: make(map[string]bool), left: mostVerified, bytes: mostHashed}
	for _, list := range signatures(meta) {
		for _, s := range list.signatures {
			if len(c.good) >= k.Require {
				return nil
			}
			list.verify(c, s)
		}
	}
	if len(c.good) >= k.Require {
		return nil
	}
	return &LackingError{Policy: k.Name, Good: len(c.good), Want: k.Require, Bad: c.bad, More: c.more}
}

// What the signatures of one commit may cost: so many are verified by a key, and so many
// bytes hashed for that. A commit is hashed for each.
const (
	mostVerified = 500
	mostHashed   = 1 << 30
)

// mostReasons is how many reasons a refusal gives.
const mostReasons = 5

// count is the look at one commit's signatures.
type count struct {
	keys   *Keys
	commit []byte
	now    time.Time
	good   map[string]bool // keys that have signed it
	bad    []string
	more   int
	left   int   // signatures that may still be verified
	bytes  int64 // that may still be hashed
}

// spend tells whether one more signature may be verified.
func (c *count) spend() bool {
	c.left--
	c.bytes -= int64(len(c.commit))
	return c.left >= 0 && c.bytes >= 0
}

const tooMany = "there are too many signatures to verify them all"

// reject notes why a signature does not count, each reason once.
func (c *count) reject(format string, args ...any) {
	why := fmt.Sprintf(format, args...)
	switch {
	case slices.Contains(c.bad, why):
	case len(c.bad) < mostReasons:
		c.bad = append(c.bad, why)
	default:
		c.more++
	}
}

// list are the signatures of one kind.
type list struct {
	signatures [][]byte
	verify     func(*count, []byte)
}

var (
	dictType = gvariant.MustParse("a{sv}")
	listType = gvariant.MustParse("aay")
)

// signatures lists those of detached metadata, without those that are there twice.
func signatures(meta []byte) (lists []list) {
	if !dictType.Normal(meta) {
		return nil
	}
	for _, entry := range gvariant.Dict(meta) {
		value, ok := gvariant.Value(entry.Value, "aay")
		if !ok {
			continue
		}
		switch entry.Key {
		case "ostree.gpgsigs":
			lists = append(lists, list{unique(value), (*count).gpg})
		case "ostree.sign.ed25519":
			lists = append(lists, list{unique(value), (*count).ed25519})
		}
	}
	return lists
}

func unique(value []byte) (all [][]byte) {
	a := listType.Elements(value)
	seen := make(map[string]bool, a.Len())
	for i := range a.Len() {
		if s := a.At(i); !seen[string(s)] {
			seen[string(s)] = true
			all = append(all, s)
		}
	}
	return all
}

// ed25519 looks for the key of a signature, which does not name it.
func (c *count) ed25519(signature []byte) {
	if len(c.keys.Ed25519) == 0 {
		c.reject("ed25519 signatures do not count")
		return
	}
	for _, key := range c.keys.Ed25519 {
		if !c.spend() {
			c.reject(tooMany)
			return
		}
		if ed25519.Verify(key, c.commit, signature) {
			c.good["ed25519 "+base64.StdEncoding.EncodeToString(key)] = true
			return
		}
	}
	c.reject("an ed25519 signature is of none of the %d ed25519 keys that count, or of another commit", len(c.keys.Ed25519))
}
