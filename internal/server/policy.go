// SPDX-License-Identifier: AGPL-3.0-or-later

package server

import (
	"context"
	"errors"
	"fmt"
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
// with it fails, and a changed file with it is not used. It is for the user as which the
// server runs: gpg leaves files behind.
func CheckSettings(c *config.Config) error {
	var errs []error
	for _, r := range c.Served() {
		err := checkRepository(&r)
		if err != nil && r.Name != "" && c.Repositories != nil {
			err = fmt.Errorf("repository %s: %w", r.Name, err)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func checkRepository(r *config.Repository) error {
	errs := []error{fitsBucket(r)}
	if r.CheckCommand != nil {
		if err := program.Check(r.CheckCommand); err != nil {
			errs = append(errs, fmt.Errorf("check-command: %w", err))
		}
	}
	for _, p := range r.Policy {
		_, err := policy.Load(p)
		errs = append(errs, err)
	}
	return errors.Join(append(errs, checkKeys(context.Background(), sign.New(r.Sign)))...)
}
