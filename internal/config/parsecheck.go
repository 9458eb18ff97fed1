// SPDX-License-Identifier: AGPL-3.0-or-later

package config

import (
	"errors"
	"time"

	"github.com/lirios/ostree-upload/internal/units"
)

// defaultCheckTimeout is how long check-command may take.
const defaultCheckTimeout = units.Duration(10 * time.Minute)

// check reads the program that looks at a session before it is published.
func (p *parser) check(form *repositoryForm, r *Repository) {
	r.CheckCommand = p.command(&form.CheckCommand, "check-command")
	p.duration(&form.CheckTimeout, "check-timeout", &r.CheckTimeout)
	if r.CheckTimeout == 0 {
		p.errorf(&form.CheckTimeout, "check-timeout", "%w", errors.New("must be more than 0"))
	}
}
