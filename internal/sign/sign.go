// SPDX-License-Identifier: AGPL-3.0-or-later

// Package sign makes the signatures of a server, and tells whether it has made one: by
// GPG, by ed25519, and by a program that asks for one elsewhere.
//
//   - Signatures stand where libostree looks for them: in an a{sv} that is a commit's
//     detached metadata or a summary.sig, lists of them by kind.
//   - A key signs the same bytes once: a signature of it that is there already is
//     not made again.
//   - Nothing here takes longer than Timeout for each key.
//
// Keys may be used by many goroutines. They read their files anew each time.
package sign

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/gvariant"
)

// Timeout is how long one signature may take.
const Timeout = 20 * time.Second

// The kinds of signatures, by the keys that libostree has for them.
const (
	gpgSignatures     = "ostree.gpgsigs"
	ed25519Signatures = "ostree.sign.ed25519"
)

// A key makes signatures of one kind, or a program does so with it.
type key interface {
	// check finds what would keep the key from ever signing, without signing.
	check(ctx context.Context) error
	// sign signs data, unless one of the signatures that are there is the key's own: then
	// it returns none.
	sign(ctx context.Context, what string, data []byte, there present) ([]signature, error)
	// made tells whether one of the signatures is the key's own, over data.
	made(ctx context.Context, data []byte, there []signature) (bool, error)
}

type signature struct {
	kind  string
	bytes []byte
}

// present are signatures that are there. Where nobody can verify one, only those count
// that the repository has: whoever pushes can bring what merely claims to be of a key.
type present struct{ all, held []signature }

// Keys are all that a server signs with.
type Keys struct {
	Commits bool // commits are signed, too
	config  config.Sign
	keys    []key
}

// New are the keys of a configuration, nil if it names none.
func New(c config.Sign) *Keys {
	if !c.Any() {
		return nil
	}
	k := &Keys{Commits: c.Commits, config: c}
	for _, id := range c.GPG.Keys {
		k.keys = append(k.keys, &gpgKey{c.GPG.Homedir, id})
	}
	if c.Ed25519 != "" {
		k.keys = append(k.keys, ed25519File(c.Ed25519))
	}
	if len(c.Command) > 0 {
		k.keys = append(k.keys, command(c.Command))
	}
	return k
}

// Same tells whether others are of the same configuration.
func (k *Keys) Same(others *Keys) bool {
	return others != nil && reflect.DeepEqual(k.config, others.config)
}

// Check tells what keeps keys from ever signing, all of it. Each line names the setting.
func (k *Keys) Check(ctx context.Context) error {
	return k.each(func(key key) error { return key.check(ctx) })
}

// Try signs a few bytes with each key: an agent may be away, or locked.
func (k *Keys) Try(ctx context.Context) error {
	return k.each(func(key key) error {
		_, err := key.sign(ctx, "trial", []byte("a trial signature of ostree-upload\n"), present{})
		return err
	})
}

func (k *Keys) each(do func(key) error) error {
	var errs []error
	for _, key := range k.keys {
		errs = append(errs, do(key))
	}
	return errors.Join(errs...)
}

// SignCommit makes the signatures of a commit that its detached metadata lacks, and
// returns detached metadata of these alone; nil if it lacks none. Of meta the repository
// has held already.
func (k *Keys) SignCommit(ctx context.Context, commit, meta, held []byte) ([]byte, error) {
	entries, err := k.sign(ctx, "commit", commit, present{read(meta), read(held)})
	if err != nil || len(entries) == 0 {
		return nil, err
	}
	return gvariant.WriteDict(entries), nil
}

// own is an entry of a summary.sig beside the signatures, which clients pass by: a server
// knows by it that it made the file, whatever keys it has now.
var own = gvariant.Entry{Key: "ostree-upload.server", Value: gvariant.WriteVariant("b", []byte{1})}

// SignSummary makes the summary.sig of a summary.
func (k *Keys) SignSummary(ctx context.Context, summary []byte) ([]byte, error) {
	entries, err := k.sign(ctx, "summary", summary, present{})
	if err != nil {
		return nil, err
	}
	return gvariant.WriteDict(append(entries, own)), nil
}

// Own tells whether a server made a summary.sig.
func Own(b []byte) bool {
	return dictType.Normal(b) && slices.ContainsFunc(gvariant.Dict(b), func(e gvariant.Entry) bool { return e.Key == own.Key })
}

func (k *Keys) sign(ctx context.Context, what string, data []byte, there present) ([]gvariant.Entry, error) {
	var made []signature
	for _, key := range k.keys {
		more, err := key.sign(ctx, what, data, there)
		if err != nil {
			return nil, err
		}
		made = append(made, more...)
	}
	return entries(made), nil
}

// All tells whether each of the keys made a signature in the a{sv} there, over data. Of a
// program's key nobody knows.
func (k *Keys) All(ctx context.Context, data, there []byte) (bool, error) {
	have := read(there)
	for _, key := range k.keys {
		if made, err := key.made(ctx, data, have); !made || err != nil {
			return false, err
		}
	}
	return true, nil
}

// Lacks tells whether one of the keys that are here made no signature in the a{sv} there,
// over data: what a program signs with is not here.
func (k *Keys) Lacks(ctx context.Context, data, there []byte) (bool, error) {
	have := read(there)
	for _, key := range k.keys {
		if _, elsewhere := key.(command); elsewhere {
			continue
		}
		if made, err := key.made(ctx, data, have); !made || err != nil {
			return err == nil, err
		}
	}
	return false, nil
}

// Any tells whether one of the keys made a signature in the a{sv} there, over data.
func (k *Keys) Any(ctx context.Context, data, there []byte) (bool, error) {
	have := read(there)
	for _, key := range k.keys {
		if made, err := key.made(ctx, data, have); made || err != nil {
			return made, err
		}
	}
	return false, nil
}

var (
	dictType = gvariant.MustParse("a{sv}")
	listType = gvariant.MustParse("aay")
)

// read lists the signatures of an a{sv}; there are none in what is none.
func read(b []byte) (list []signature) {
	if !dictType.Normal(b) {
		return nil
	}
	for _, entry := range gvariant.Dict(b) {
		value, ok := gvariant.Value(entry.Value, "aay")
		if !ok || entry.Key != gpgSignatures && entry.Key != ed25519Signatures {
			continue
		}
		a := listType.Elements(value)
		for i := range a.Len() {
			list = append(list, signature{entry.Key, a.At(i)})
		}
	}
	return list
}

// entries are those of an a{sv} of signatures.
func entries(list []signature) (entries []gvariant.Entry) {
	for _, kind := range []string{gpgSignatures, ed25519Signatures} {
		var of [][]byte
		for _, s := range list {
			if s.kind == kind {
				of = append(of, s.bytes)
			}
		}
		if len(of) > 0 {
			entries = append(entries, gvariant.Entry{Key: kind, Value: gvariant.WriteVariant("aay", gvariant.WriteArray(1, of))})
		}
	}
	return entries
}

// has tells whether a list has a signature, byte for byte.
func has(list []signature, s signature) bool {
	return slices.ContainsFunc(list, func(other signature) bool {
		return other.kind == s.kind && slices.Equal(other.bytes, s.bytes)
	})
}

// failed names the setting that an error is about.
func failed(setting string, err error) error { return fmt.Errorf("sign.%s: %w", setting, err) }
