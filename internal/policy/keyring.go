// SPDX-License-Identifier: AGPL-3.0-or-later

package policy

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// mostKeyring is how large a keyring may be.
const mostKeyring = 16 << 20

// readKeyring reads the public keys of a file, as `gpg --export` prints them, with
// --armor or without, also several of them one after the other. One that is there twice
// is one key: what either says of it holds.
func readKeyring(path string) (openpgp.EntityList, error) {
	text, err := readFile(path)
	if err != nil {
		return nil, err
	}
	var keys openpgp.EntityList
	if bytes.Contains(text, []byte("-----BEGIN PGP ")) {
		keys, err = readArmored(text)
	} else {
		keys, err = openpgp.ReadKeyRing(bytes.NewReader(text))
	}
	if err == nil && len(keys) == 0 {
		err = errors.New("it is empty")
	}
	if err != nil {
		return nil, fmt.Errorf("%s holds no public keys as `gpg --export` writes them: %w", path, err)
	}
	return merged(keys), nil
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s is not there", path)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("%s cannot be read by user %d, as which the server runs", path, os.Geteuid())
	case err != nil:
		return nil, err
	}
	defer f.Close() //nolint:errcheck // it is only read
	text, err := io.ReadAll(io.LimitReader(f, mostKeyring+1))
	if err == nil && len(text) > mostKeyring {
		err = fmt.Errorf("%s is larger than the %d bytes that a keyring may have", path, mostKeyring)
	}
	return text, err
}

// readArmored reads all armored blocks of a text.
func readArmored(text []byte) (keys openpgp.EntityList, err error) {
	in := bufio.NewReader(bytes.NewReader(text)) // which Decode goes on with
	for n := 1; ; n++ {
		block, err := armor.Decode(in)
		if errors.Is(err, io.EOF) {
			return keys, nil
		}
		if err != nil {
			return nil, fmt.Errorf("block %d: %w", n, err)
		}
		if block.Type != openpgp.PublicKeyType {
			return nil, fmt.Errorf("block %d is a %s", n, block.Type)
		}
		more, err := openpgp.ReadKeyRing(block.Body)
		if err != nil {
			return nil, fmt.Errorf("block %d: %w", n, err)
		}
		keys = append(keys, more...)
	}
}

// merged has each key once.
func merged(keys openpgp.EntityList) (once openpgp.EntityList) {
	at := make(map[string]*openpgp.Entity)
	for _, k := range keys {
		fingerprint := string(k.PrimaryKey.Fingerprint)
		if first := at[fingerprint]; first != nil {
			merge(first, k)
			continue
		}
		at[fingerprint] = k
		once = append(once, k)
	}
	return once
}

// merge adds to a key what another copy of it says.
func merge(k, other *openpgp.Entity) {
	k.Revocations = append(k.Revocations, other.Revocations...)
	k.DirectSignatures = append(k.DirectSignatures, other.DirectSignatures...)
	for name, identity := range other.Identities {
		same := k.Identities[name]
		if same == nil {
			identity.Primary = k
			k.Identities[name] = identity
			continue
		}
		same.SelfCertifications = append(same.SelfCertifications, identity.SelfCertifications...)
		same.Revocations = append(same.Revocations, identity.Revocations...)
	}
	for i := range other.Subkeys {
		mergeSubkey(k, &other.Subkeys[i])
	}
}

func mergeSubkey(k *openpgp.Entity, other *openpgp.Subkey) {
	for i := range k.Subkeys {
		same := &k.Subkeys[i]
		if bytes.Equal(same.PublicKey.Fingerprint, other.PublicKey.Fingerprint) {
			same.Bindings = append(same.Bindings, other.Bindings...)
			same.Revocations = append(same.Revocations, other.Revocations...)
			return
		}
	}
	other.Primary = k
	k.Subkeys = append(k.Subkeys, *other)
}
