// SPDX-License-Identifier: AGPL-3.0-or-later

package policy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"

	pgperrors "github.com/ProtonMail/go-crypto/openpgp/errors"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// gpg looks at what one signer made, which is one packet as a rule.
func (c *count) gpg(signature []byte) {
	packets := packet.NewReader(bytes.NewReader(signature))
	for {
		p, err := packets.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			c.reject("a GPG signature cannot be read: %v", err)
			return
		}
		if s, is := p.(*packet.Signature); is && !c.packet(s) {
			return
		}
	}
}

// packet counts the key that made a signature; false if no more may be verified.
func (c *count) packet(s *packet.Signature) (goOn bool) {
	if s.IssuerKeyId == nil {
		c.reject("a GPG signature does not say by which key it is")
		return true
	}
	id := *s.IssuerKeyId
	signers := c.keys.gpg.EntitiesById(id)
	if len(signers) == 0 {
		c.reject("GPG key ID %016X is not among the keys that count", id)
		return true
	}
	if !c.spend() {
		c.reject(tooMany)
		return false
	}
	if err := c.verify(signers[0], s, id); err != nil {
		c.reject("GPG key ID %016X: %v", id, err)
		return true
	}
	c.good[fmt.Sprintf("gpg %X", signers[0].PrimaryKey.Fingerprint)] = true
	return true
}

// verify tells why a signature by a key, or by its subkey of that ID, does not count. The
// key has to be in force now, and not when it signed: whoever has a key that was lost sets
// his clock back.
func (c *count) verify(signer *openpgp.Entity, s *packet.Signature, id uint64) error {
	settings := &packet.Config{Time: func() time.Time { return c.now }}
	if err := inForce(signer, id, settings); err != nil {
		return err
	}
	key, ok := signer.SigningKeyById(c.now, id, settings)
	switch {
	case !ok:
		return errors.New("this key may not sign, or is too weak")
	case s.SigType != packet.SigTypeBinary:
		return errors.New("it signed a text, and not these bytes")
	case settings.RejectMessageHashAlgorithm(s.Hash) || settings.RejectHashAlgorithm(s.Hash):
		return fmt.Errorf("the signature is made with %v, which is too weak", s.Hash)
	case s.CreationTime.After(c.now.Add(skew)):
		return fmt.Errorf("the signature is from the future, %s", day(s.CreationTime))
	case s.SigExpired(latest(c.now, s.CreationTime)):
		return errors.New("the signature has expired")
	case s.CreationTime.Before(key.PublicKey.CreationTime):
		return errors.New("the signature is older than the key")
	}
	for _, n := range s.Notations {
		if n.IsCritical {
			return fmt.Errorf("the signature has a condition that is not known here, %.50q", n.Name)
		}
	}
	return c.hashed(key.PublicKey, s)
}

// skew is how far the clock of who signed may be ahead.
const skew = time.Hour

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func (c *count) hashed(key *packet.PublicKey, s *packet.Signature) error {
	h, err := s.PrepareVerify()
	if err != nil {
		return err
	}
	if _, err := h.Write(c.commit); err != nil {
		return err
	}
	if err := key.VerifySignature(h, s); err != nil {
		return errors.New("the signature is of another commit, or damaged")
	}
	return nil
}

// inForce tells why a key, or its subkey of an ID, may not be used at the time of the
// settings.
func inForce(e *openpgp.Entity, id uint64, settings *packet.Config) error {
	if self, err := e.VerifyPrimaryKey(settings.Now(), settings); err != nil {
		return why(err, "the key", e.PrimaryKey, self)
	}
	for i := range e.Subkeys {
		sub := &e.Subkeys[i]
		if sub.PublicKey.KeyId != id {
			continue
		}
		if _, err := sub.Verify(settings.Now(), settings); err != nil {
			return why(err, "the subkey", sub.PublicKey, nil)
		}
	}
	return nil
}

func why(err error, what string, key *packet.PublicKey, self *packet.Signature) error {
	switch {
	case errors.Is(err, pgperrors.ErrKeyRevoked):
		return fmt.Errorf("%s is revoked", what)
	case errors.Is(err, pgperrors.ErrKeyExpired) && self != nil && self.KeyLifetimeSecs != nil:
		return fmt.Errorf("%s has expired on %s", what, day(key.CreationTime.Add(time.Duration(*self.KeyLifetimeSecs)*time.Second)))
	case errors.Is(err, pgperrors.ErrKeyExpired):
		return fmt.Errorf("%s has expired", what)
	}
	return fmt.Errorf("%s cannot be used: %w", what, err)
}

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }
