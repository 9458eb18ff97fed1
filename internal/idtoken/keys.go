// SPDX-License-Identifier: AGPL-3.0-or-later

package idtoken

import (
	"context"
	"errors"

	"github.com/go-jose/go-jose/v4"
)

// keySet is an issuer's keys for one ID token (oidc.KeySet). Of an error go-oidc passes
// on only the text.
type keySet struct {
	issuer *issuer
	signed []byte // the payload, once its signature was verified
	err    error
}

// VerifySignature returns the payload of an ID token if one of the keys has signed it.
// go-oidc has looked at its algorithm before.
func (k *keySet) VerifySignature(ctx context.Context, sent string) ([]byte, error) {
	jws, err := jose.ParseSignedCompact(sent, signatureAlgorithms())
	if err == nil {
		k.signed, err = k.issuer.verify(ctx, jws)
	}
	k.err = err
	return k.signed, err
}

func signatureAlgorithms() []jose.SignatureAlgorithm {
	list := make([]jose.SignatureAlgorithm, len(algorithms))
	for i, a := range algorithms {
		list[i] = jose.SignatureAlgorithm(a)
	}
	return list
}

var (
	errForged  = refusedf("the ID token's signature is not right")
	errUnknown = refusedf("the ID token is signed with a key that its issuer does not have")
)

// verify returns the payload if a key has signed it. Keys are read where that may help.
func (i *issuer) verify(ctx context.Context, jws *jose.JSONWebSignature) ([]byte, error) {
	payload, err := i.try(jws)
	switch {
	case err == nil && i.olderThan(renewEvery):
		_, _, _ = i.begin() // nobody waits for it, and the log tells if it fails
		return payload, nil
	case err == nil, errors.Is(err, errForged) && !i.olderThan(trustedFor):
		return payload, err
	}
	for {
		own, failed := i.fetch(ctx)
		payload, err := i.try(jws)
		if errors.Is(err, errUnknown) && failed != nil {
			return nil, failed
		}
		if err == nil || own || failed != nil {
			return payload, err
		}
	}
}

// try looks among the keys that are known.
func (i *issuer) try(jws *jose.JSONWebSignature) (payload []byte, err error) {
	i.mu.Lock()
	keys := i.keys
	i.mu.Unlock()
	header := jws.Signatures[0].Header
	err = errUnknown
	for _, key := range keys {
		if header.KeyID != "" && header.KeyID != key.KeyID || key.Algorithm != "" && key.Algorithm != header.Algorithm {
			continue
		}
		if payload, failed := jws.Verify(key); failed == nil {
			return payload, nil
		}
		err = errForged
	}
	return nil, err
}
