// SPDX-License-Identifier: AGPL-3.0-or-later

package sign

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/ProtonMail/go-crypto/openpgp"
	pgperrors "github.com/ProtonMail/go-crypto/openpgp/errors"

	"github.com/lirios/ostree-upload/internal/program"
)

// gpgKey is a key in a GnuPG home. It signs by gpg, and so by the agent of that home,
// which may have it on a card.
type gpgKey struct{ homedir, id string }

func (k *gpgKey) check(ctx context.Context) error {
	if err := checkHome(k.homedir); err != nil {
		return failed("gpg.homedir", err)
	}
	var e *program.Error
	listed, err := k.gpg(ctx, nil, "--with-colons", "--list-secret-keys", "--", k.id)
	if errors.As(err, &e) && e.Ran() {
		return failed("gpg.keys", fmt.Errorf("there is no secret key %s in %s: %w", k.id, k.home(), err))
	}
	if err == nil {
		err = k.usable(string(listed))
	}
	if err != nil {
		return failed("gpg.keys", err)
	}
	return nil
}

// checkHome refuses a GnuPG home that others can look into, or that gpg cannot use.
func checkHome(path string) error {
	if path == "" {
		return nil
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s is not there", path)
	case err != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("%s is no folder", path)
	}
	if owner := info.Sys().(*syscall.Stat_t).Uid; int(owner) != os.Geteuid() {
		return fmt.Errorf("%s belongs to user %d, and the server runs as user %d; gpg wants both to be the same: chown -R %d %s", path, owner, os.Geteuid(), os.Geteuid(), path)
	}
	if open := info.Mode().Perm(); open&0o077 != 0 {
		return fmt.Errorf("%s is open to other users (mode %04o): chmod 700 %s", path, open, path)
	}
	return nil
}

// usable reads a list of keys that gpg prints for programs, and tells why the one that is
// to be in it cannot sign.
func (k *gpgKey) usable(list string) error {
	var keys [][]string
	for line := range strings.Lines(list) {
		if fields := strings.Split(strings.TrimSpace(line), ":"); fields[0] == "sec" && len(fields) > 11 {
			keys = append(keys, fields)
		}
	}
	if len(keys) != 1 {
		return fmt.Errorf("%d secret keys in %s go by %s; name one by its fingerprint", len(keys), k.home(), k.id)
	}
	validity, capabilities := keys[0][1], keys[0][11]
	switch {
	case strings.HasPrefix(validity, "e"):
		return fmt.Errorf("key %s in %s has expired; extend it by `gpg --quick-set-expire`, or name another", k.id, k.home())
	case strings.HasPrefix(validity, "r"):
		return fmt.Errorf("key %s in %s is revoked; name another", k.id, k.home())
	case !strings.Contains(capabilities, "S"):
		return fmt.Errorf("key %s in %s cannot sign: no part of it that may do so is in force", k.id, k.home())
	}
	return nil
}

func (k *gpgKey) sign(ctx context.Context, _ string, data []byte, there present) ([]signature, error) {
	if made, err := k.made(ctx, data, there.all); made || err != nil {
		return nil, err
	}
	// Nobody is there who could type a passphrase.
	b, err := k.gpg(ctx, data, "--no-armor", "--pinentry-mode", "error", "--local-user", k.id, "--detach-sign", "--output", "-")
	if err == nil && len(b) == 0 {
		err = errors.New("gpg printed no signature")
	}
	if err != nil {
		return nil, failed("gpg", fmt.Errorf("key %s in %s did not sign: %w%s", k.id, k.home(), err, locked(err)))
	}
	return []signature{{gpgSignatures, b}}, nil
}

// locked says what may be done about a key that only works with a passphrase.
func locked(err error) string {
	if e := new(program.Error); errors.As(err, &e) && slices.ContainsFunc(e.Said, func(line string) bool {
		return strings.Contains(line, "pinentry") || strings.Contains(line, "passphrase")
	}) {
		return "; it has a passphrase: give it to the agent by gpg-preset-passphrase, or take the passphrase away"
	}
	return ""
}

func (k *gpgKey) made(ctx context.Context, data []byte, there []signature) (bool, error) {
	there = slices.DeleteFunc(slices.Clone(there), func(s signature) bool { return s.kind != gpgSignatures })
	if len(there) == 0 {
		return false, nil
	}
	ring, err := k.public(ctx)
	if err != nil {
		return false, failed("gpg", err)
	}
	return madeOne(ring, data, slices.Values(there)) || madeOne(ring, data, reversed(there)), nil
}

// madeOne tells whether one of the first signatures that claim to be of a key is.
func madeOne(ring openpgp.EntityList, data []byte, there iter.Seq[signature]) bool {
	tried := 0
	for s := range there {
		_, err := openpgp.CheckDetachedSignature(ring, bytes.NewReader(data), bytes.NewReader(s.bytes), nil)
		if err == nil {
			return true
		}
		if errors.Is(err, pgperrors.ErrUnknownIssuer) {
			continue
		}
		if tried++; tried == mostTried {
			break
		}
	}
	return false
}

func reversed(list []signature) iter.Seq[signature] {
	return func(yield func(signature) bool) {
		for _, s := range slices.Backward(list) {
			if !yield(s) {
				return
			}
		}
	}
}

// mostTried is how many signatures that claim to be of one key are verified: whoever
// pushes can bring thousands, of which each may cost the hash of a large commit. A
// server's own is the first of a commit that was new, and else the last.
const mostTried = 8

// public reads the public key. One of a kind that is unknown here is not in the ring.
func (k *gpgKey) public(ctx context.Context) (openpgp.EntityList, error) {
	b, err := k.gpg(ctx, nil, "--no-armor", "--export", "--", k.id)
	if err != nil {
		return nil, err
	}
	ring, err := openpgp.ReadKeyRing(bytes.NewReader(b))
	if unknown := pgperrors.UnsupportedError(""); err != nil && !errors.As(err, &unknown) {
		return nil, fmt.Errorf("read key %s of %s: %w", k.id, k.home(), err)
	}
	return ring, nil
}

func (k *gpgKey) home() string { return cmp.Or(k.homedir, "the GnuPG home") }

// mostPrinted is how much a program may print: a list of keys with many user IDs, or a
// signature.
const mostPrinted = 1 << 20

func (k *gpgKey) gpg(ctx context.Context, stdin []byte, args ...string) ([]byte, error) {
	all := []string{"gpg", "--batch", "--no-tty", "--quiet"}
	if k.homedir != "" {
		all = append(all, "--homedir", k.homedir)
	}
	return run(ctx, program.Command{Args: append(all, args...), Stdin: stdin})
}

// run returns what a program prints.
func run(ctx context.Context, c program.Command) ([]byte, error) {
	out := &program.Capped{Most: mostPrinted}
	c.Stdout, c.Timeout = out, Timeout
	_, err := program.Run(ctx, c)
	return out.Bytes, err
}
