// SPDX-License-Identifier: AGPL-3.0-or-later

package server

import (
	"context"
	"fmt"
	"strings"

	"github.com/lirios/ostree-upload/internal/hint"
	"github.com/lirios/ostree-upload/internal/sign"
)

// keys are what the server signs with, as the configuration says now; nil if it does not.
func (s *Server) keys() *sign.Keys { return sign.New(s.opt.Settings().Sign) }

// checkKeys refuses a start with keys that can never sign. What may pass, such as an agent
// that is away, is told by tryKeys.
func checkKeys(ctx context.Context, keys *sign.Keys) error {
	if keys == nil {
		return nil
	}
	if err := keys.Check(ctx); err != nil {
		return hint.Add(fmt.Errorf("nothing could be signed:\n%w", err), "correct what the lines name, or leave the keys below sign out of the configuration")
	}
	return nil
}

// tryKeys signs something with each key, so that the log says what is wrong before a
// publish needs a signature.
func (s *Server) tryKeys(ctx context.Context) {
	keys := s.keys()
	if keys == nil {
		return
	}
	err := keys.Try(ctx)
	if err == nil || ctx.Err() != nil {
		return
	}
	for line := range strings.Lines(err.Error()) {
		s.opt.Log.Error("a key does not sign now; it will be tried again when it is needed", "err", strings.TrimSpace(line))
	}
}
