// SPDX-License-Identifier: AGPL-3.0-or-later

package server

import (
	"context"
	"errors"
	"os"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/policy"
	"github.com/lirios/ostree-upload/internal/sign"
)

// policy says who has to have signed what is published, as the configuration says now.
func (s *Server) policy() []config.Policy { return s.opt.Settings().Policy }

// CheckSettings tells what a configuration names that is not there and without which
// nothing could be published, such as a keyring, or a key to sign with. A start with it fails, and a changed
// file with it is not used.
func CheckSettings(c *config.Config) error {
	var errs []error
	for _, p := range c.Policy {
		_, err := policy.Load(p)
		errs = append(errs, err)
	}
	if os.Geteuid() != 0 { // else it may not be yet who it will be, and gpg would leave files of root's behind
		errs = append(errs, checkKeys(context.Background(), sign.New(c.Sign)))
	}
	return errors.Join(errs...)
}
