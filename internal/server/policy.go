// SPDX-License-Identifier: AGPL-3.0-or-later

package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/policy"
	"github.com/lirios/ostree-upload/internal/program"
	"github.com/lirios/ostree-upload/internal/sign"
	"github.com/lirios/ostree-upload/publish"
)

// policy says who has to have signed what is published, as the configuration says now.
func (s *Server) policy() []config.Policy { return s.opt.Settings().Policy }

// check is what has to consent to what is published, as the configuration says now.
func (s *Server) check() publish.Check {
	now := s.opt.Settings()
	return publish.Check{Command: now.CheckCommand, Timeout: time.Duration(now.CheckTimeout)}
}

// CheckSettings tells what a configuration names that is not there and without which
// nothing could be published, such as a keyring, a program, or a key to sign with. A start
// with it fails, and a changed file with it is not used.
func CheckSettings(c *config.Config) error {
	var errs []error
	for _, r := range c.Served() {
		err := checkSettings(&r)
		if err != nil && r.Name != "" {
			err = fmt.Errorf("repositories.%s: %w", r.Name, err)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func checkSettings(c *config.Repository) error {
	var errs []error
	if c.CheckCommand != nil {
		if err := program.Check(c.CheckCommand); err != nil {
			errs = append(errs, fmt.Errorf("check-command: %w", err))
		}
	}
	for _, p := range c.Policy {
		_, err := policy.Load(p)
		errs = append(errs, err)
	}
	if os.Geteuid() != 0 { // else it may not be yet who it will be, and gpg would leave files of root's behind
		errs = append(errs, checkKeys(context.Background(), sign.New(c.Sign)))
	}
	return errors.Join(errs...)
}
