// SPDX-License-Identifier: AGPL-3.0-or-later

package config

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/lirios/ostree-upload/internal/token"
	"github.com/lirios/ostree-upload/internal/units"
)

// Kinds of works that follow a publish, in the order in which they are done.
const (
	AfterDeltas  = "deltas"
	AfterFlatpak = "flatpak"
	AfterCommand = "command"
)

var afterKinds = []string{AfterDeltas, AfterFlatpak, AfterCommand}

// After is a work that follows each publish of a ref that it concerns.
type After struct {
	Name    string   // unlike that of all others; it is in the journal, the log, and in sessions
	Kind    string   // AfterDeltas, AfterFlatpak or AfterCommand
	Refs    []string // globs, one of which a ref has to match; nil: all refs
	Timeout units.Duration
	Command []string // of AfterCommand: the program and its arguments
	Deltas  Deltas   // of AfterDeltas
	Flatpak Flatpak  // of AfterFlatpak
}

// Concerns tells whether the work follows a publish of this ref.
func (a *After) Concerns(ref string) bool {
	return a.Refs == nil || slices.ContainsFunc(a.Refs, func(g string) bool { return token.MatchGlob(g, ref) })
}

// afterForm is one entry of the list after: one of its first three keys says what it is.
type afterForm struct {
	Deltas  *deltasForm  `yaml:"deltas"`
	Flatpak *flatpakForm `yaml:"flatpak"`
	Command yaml.Node    `yaml:"command"`
	Refs    yaml.Node    `yaml:"refs"`
	Timeout yaml.Node    `yaml:"timeout"`
}

// after reads the list, in the order in which the works are done.
func (p *parser) after(forms []afterForm) (works []After) {
	for i := range forms {
		works = append(works, p.work(&forms[i], fmt.Sprintf("after %d", i+1)))
	}
	slices.SortStableFunc(works, func(a, b After) int {
		return slices.Index(afterKinds, a.Kind) - slices.Index(afterKinds, b.Kind)
	})
	nameWorks(works)
	return works
}

// work reads one entry; what is faulty in it stays empty.
func (p *parser) work(f *afterForm, key string) (a After) {
	switch n := count(f.Deltas != nil, f.Flatpak != nil, f.Command.Kind != 0); {
	case n == 0:
		p.errorf(present(&f.Refs, &f.Timeout), key, "%w", errors.New("needs one of the keys deltas, flatpak and command; deltas: {} and flatpak: {} have all defaults"))
	case n > 1:
		p.errorf(present(&f.Command, &f.Refs), key, "%w", errors.New("is more than one work: give each of deltas, flatpak and command an entry of its own"))
	case f.Deltas != nil:
		a.Kind = AfterDeltas
		p.deltas(f.Deltas, key+": deltas", &a.Deltas)
	case f.Flatpak != nil:
		a.Kind = AfterFlatpak
		p.flatpak(f, key, &a.Flatpak)
	default:
		a.Kind = AfterCommand
		a.Command = p.command(&f.Command, key+": command")
	}
	p.workRefs(f, key, &a)
	p.duration(&f.Timeout, key+": timeout", &a.Timeout)
	if f.Timeout.Kind != 0 && a.Timeout == 0 {
		p.errorf(&f.Timeout, key+": timeout", "must be more than 0")
	}
	return a
}

func count(all ...bool) (n int) {
	for _, is := range all {
		if is {
			n++
		}
	}
	return n
}

func anyWord(string) error { return nil }

// workRefs reads the globs, which for deltas may also stand among what belongs to them.
func (p *parser) workRefs(f *afterForm, key string, a *After) {
	globs := &f.Refs
	if f.Deltas != nil && f.Deltas.Refs.Kind != 0 {
		if f.Refs.Kind != 0 {
			p.errorf(&f.Refs, key+": refs", "%w", errors.New("the refs of these deltas are given twice"))
		}
		globs = &f.Deltas.Refs
	}
	if refs, there := p.list(globs, key+": refs", token.CheckGlob); there {
		if a.Refs = refs; len(refs) == 0 && globs.Kind == yaml.SequenceNode && len(globs.Content) == 0 {
			p.errorf(globs, key+": refs", "%w", errors.New("concerns no ref; leave the key out for all refs"))
		}
	}
}

// command reads the words of a program and its arguments. A relative path would mean
// another program wherever the server is started.
func (p *parser) command(n *yaml.Node, key string) []string {
	faults := len(p.faults)
	words, there := p.list(n, key, anyWord)
	switch {
	case !there || len(p.faults) > faults:
	case len(words) == 0:
		p.errorf(n, key, "%w", errors.New("names no program; it is a list such as [/usr/local/bin/purge-cdn, --all]"))
	case strings.Contains(words[0], "/") && !filepath.IsAbs(words[0]):
		p.errorf(n, key, "%s is relative: give an absolute path, or a name that is in $PATH", words[0])
	}
	return words
}

// nameWorks names each work by its kind, a command also by its program, and by a number
// if there would be two.
func nameWorks(works []After) {
	seen := map[string]int{}
	for i := range works {
		name := works[i].Kind
		if len(works[i].Command) > 0 {
			name += " " + filepath.Base(works[i].Command[0])
		}
		seen[name]++
		if n := seen[name]; n > 1 {
			name += fmt.Sprintf(" (%d)", n)
		}
		works[i].Name = name
	}
}
