// SPDX-License-Identifier: AGPL-3.0-or-later

package sign

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// ed25519File is a file of secret keys in the form of `ostree sign --keys-file`: on each
// line the base64 of the seed and the public key, 64 bytes.
type ed25519File string

func (f ed25519File) check(context.Context) error {
	_, err := f.keys()
	return err
}

func (f ed25519File) sign(_ context.Context, _ string, data []byte, there present) (made []signature, err error) {
	keys, err := f.keys()
	for _, key := range keys {
		// They are the same each time.
		if s := (signature{ed25519Signatures, ed25519.Sign(key, data)}); !has(there.all, s) && !has(made, s) {
			made = append(made, s)
		}
	}
	return made, err
}

func (f ed25519File) made(_ context.Context, data []byte, there []signature) (bool, error) {
	keys, err := f.keys()
	for _, key := range keys {
		for _, s := range there {
			if s.kind == ed25519Signatures && ed25519.Verify(key.Public().(ed25519.PublicKey), data, s.bytes) {
				return true, nil
			}
		}
	}
	return false, err
}

func (f ed25519File) keys() ([]ed25519.PrivateKey, error) {
	keys, err := f.read()
	if err != nil {
		return nil, failed("ed25519.key-file", err)
	}
	return keys, nil
}

func (f ed25519File) read() (keys []ed25519.PrivateKey, err error) {
	text, err := f.text()
	if err != nil {
		return nil, err
	}
	for i, line := range strings.Split(text, "\n") {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		key, err := parseKey(line)
		if err != nil {
			return nil, fmt.Errorf("%s: line %d: %w", f, i+1, err)
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("%s holds no key", f)
	}
	return keys, nil
}

// mostKeys is how large a file of keys may be, in bytes: some hundred keys.
const mostKeys = 16 << 10

func (f ed25519File) text() (string, error) {
	info, err := os.Stat(string(f))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("%s is not there", f)
	case err != nil:
		return "", err
	case !info.Mode().IsRegular():
		return "", fmt.Errorf("%s is no file", f)
	case info.Mode().Perm()&0o007 != 0:
		return "", fmt.Errorf("%s is open to all users (mode %04o): chmod 600 %s", f, info.Mode().Perm(), f)
	case info.Size() > mostKeys:
		return "", fmt.Errorf("%s has %d bytes, which is no file of keys", f, info.Size())
	}
	b, err := os.ReadFile(string(f))
	if errors.Is(err, fs.ErrPermission) {
		return "", fmt.Errorf("user %d, as which the server runs, cannot read %s", os.Geteuid(), f)
	}
	return string(b), err
}

// parseKey never quotes what it cannot read: it may be most of a secret.
func parseKey(line string) (ed25519.PrivateKey, error) {
	b, err := base64.StdEncoding.DecodeString(line)
	if err != nil || len(b) != ed25519.PrivateKeySize {
		return nil, fmt.Errorf("this is not the base64 of the %d bytes of an ed25519 secret key (seed and public key)", ed25519.PrivateKeySize)
	}
	key := ed25519.NewKeyFromSeed(b[:ed25519.SeedSize])
	if !bytes.Equal(key, b) {
		return nil, errors.New("the public key in its second half is not that of the seed in its first")
	}
	return key, nil
}
