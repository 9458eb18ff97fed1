// SPDX-License-Identifier: AGPL-3.0-or-later

package config

import (
	"errors"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// Flatpak says how the repository's metadata for Flatpak are made.
type Flatpak struct {
	Args []string // of flatpak build-update-repo, besides the repository
}

// Options of flatpak build-update-repo that change what else is to be done.
const (
	flatpakDeltas    = "--generate-static-deltas"
	flatpakNoSummary = "--no-update-summary"
)

// WritesSummary tells whether the summary is the work of this entry.
func (f *Flatpak) WritesSummary() bool { return !slices.Contains(f.Args, flatpakNoSummary) }

// MakesDeltas tells whether static deltas are: of Flatpak's refs, and those of all others
// are deleted.
func (f *Flatpak) MakesDeltas() bool { return slices.Contains(f.Args, flatpakDeltas) }

// Signs tells whether the options name keys to sign with.
func (f *Flatpak) Signs() bool {
	return slices.ContainsFunc(f.Args, func(arg string) bool { return arg == "--gpg-sign" || strings.HasPrefix(arg, "--gpg-sign=") })
}

// WithoutSummary and WithoutDeltas are its two halves.
func (f *Flatpak) WithoutSummary() []string { return append(slices.Clone(f.Args), flatpakNoSummary) }

// WithoutDeltas is all but the static deltas.
func (f *Flatpak) WithoutDeltas() []string {
	return slices.DeleteFunc(slices.Clone(f.Args), func(arg string) bool { return arg == flatpakDeltas })
}

type flatpakForm struct {
	Args yaml.Node `yaml:"args"`
}

func (p *parser) flatpak(f *afterForm, key string, into *Flatpak) {
	into.Args, _ = p.list(&f.Flatpak.Args, key+": flatpak: args", anyWord)
	mayBeValue := false
	for _, arg := range into.Args {
		isOption := strings.HasPrefix(arg, "-")
		if !isOption && !mayBeValue {
			p.errorf(&f.Flatpak.Args, key+": flatpak: args", "%q is no option, and not the value of one; the repository is the one that is served", arg)
		}
		mayBeValue = isOption && !strings.Contains(arg, "=")
	}
	if f.Refs.Kind != 0 {
		p.errorf(&f.Refs, key+": refs", "%w", errors.New("flatpak writes the summary, which is to show all refs: leave the key out"))
	}
}
