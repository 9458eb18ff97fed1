// SPDX-License-Identifier: AGPL-3.0-or-later

package deltas

import (
	"encoding/base64"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/lirios/ostree-upload/internal/ostree"
)

// Delta is a static delta by its ends.
type Delta struct {
	From ostree.Checksum // the zero value for a delta from nothing
	To   ostree.Checksum
}

// Source is From, or nil for a delta from nothing.
func (d Delta) Source() *ostree.Checksum {
	if d.From == (ostree.Checksum{}) {
		return nil
	}
	return &d.From
}

// String is the name that `ostree static-delta list` has for it.
func (d Delta) String() string {
	if d.Source() == nil {
		return d.To.String()
	}
	return d.From.String() + "-" + d.To.String()
}

// Parse reads what String has written.
func Parse(name string) (d Delta, err error) {
	from, to, found := strings.Cut(name, "-")
	if !found {
		from, to = "", name
	}
	if found {
		if d.From, err = ostree.ParseChecksum(from); err != nil {
			return Delta{}, fmt.Errorf("static delta %.200q: %w", name, err)
		}
	}
	if d.To, err = ostree.ParseChecksum(to); err != nil {
		return Delta{}, fmt.Errorf("static delta %.200q: %w", name, err)
	}
	return d, nil
}

// MarshalText and UnmarshalText make it a key of JSON.
func (d Delta) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what MarshalText has written.
func (d *Delta) UnmarshalText(b []byte) (err error) {
	*d, err = Parse(string(b))
	return err
}

// path is where clients look for it in a repository
// (_ostree_get_relative_static_delta_path).
func (d Delta) path() string {
	name := base64Of(d.To)
	if d.Source() != nil {
		name = base64Of(d.From) + "-" + name
	}
	return filepath.Join("deltas", name[:2], name[2:])
}

// base64Of is a checksum as libostree writes it into names of files.
func base64Of(c ostree.Checksum) string {
	return strings.ReplaceAll(base64.RawStdEncoding.EncodeToString(c[:]), "/", "_")
}
