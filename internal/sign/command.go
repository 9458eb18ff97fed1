// SPDX-License-Identifier: AGPL-3.0-or-later

package sign

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"github.com/lirios/ostree-upload/internal/program"
)

// command is a program that signs with a key that is not here: bytes on stdin, their
// signature on stdout, which tells by its form of which kind it is.
type command []string

func (c command) check(context.Context) error {
	if err := program.Check(c); err != nil {
		return failed("command", err)
	}
	return nil
}

func (c command) sign(ctx context.Context, what string, data []byte, there present) ([]signature, error) {
	printed, err := run(ctx, program.Command{Args: c, Stdin: data, Env: []string{"OSTREE_UPLOAD_SIGN=" + what}})
	if err != nil {
		return nil, failed("command", err)
	}
	s, err := parseSignature(printed)
	if err != nil {
		return nil, failed("command", errors.New(c[0]+" "+err.Error()))
	}
	if has(there.all, s) || slices.ContainsFunc(there.held, func(other signature) bool { return sameIssuer(other, s) }) {
		return nil, nil
	}
	return []signature{s}, nil
}

// made knows of no signature whether it is the program's: its key is not here.
func (command) made(context.Context, []byte, []signature) (bool, error) { return false, nil }

// parseSignature takes a GPG signature, with armor or without, and the 64 bytes of an
// ed25519 signature, in base64 or as they are.
func parseSignature(b []byte) (signature, error) {
	if len(b) == ed25519.SignatureSize {
		return signature{ed25519Signatures, b}, nil
	}
	if raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(b))); err == nil && len(raw) == ed25519.SignatureSize {
		return signature{ed25519Signatures, raw}, nil
	}
	if block, err := armor.Decode(bytes.NewReader(b)); err == nil {
		if b, err = io.ReadAll(block.Body); err != nil {
			return signature{}, errors.New("printed a damaged armor")
		}
	}
	if len(issuers(b)) == 0 {
		return signature{}, errors.New("printed neither a detached GPG signature nor the 64 bytes of an ed25519 signature")
	}
	return signature{gpgSignatures, b}, nil
}

// sameIssuer tells whether two GPG signatures are by the same keys, as they say.
func sameIssuer(a, b signature) bool {
	return a.kind == gpgSignatures && b.kind == gpgSignatures && slices.Equal(issuers(a.bytes), issuers(b.bytes))
}

// issuers are the IDs of the keys that made signatures, nil if there is anything else.
func issuers(b []byte) (ids []uint64) {
	packets := packet.NewReader(bytes.NewReader(b))
	for {
		p, err := packets.Next()
		if err == io.EOF {
			slices.Sort(ids)
			return ids
		}
		s, ok := p.(*packet.Signature)
		if err != nil || !ok || s.IssuerKeyId == nil {
			return nil
		}
		ids = append(ids, *s.IssuerKeyId)
	}
}
