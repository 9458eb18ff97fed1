// SPDX-License-Identifier: AGPL-3.0-or-later

// Package manual writes the manual page and the completions of a program from the
// definitions of its command line, so that they name what the program takes.
//
// What a flag's value is, is told by its placeholder: FILE, REPO and DIR are
// completed as files and folders, REF as the refs of the repository.
package manual

import (
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// A Program is an executable with its command line.
type Program struct {
	Name     string // as people call it
	Model    *kong.Application
	Without  []*kong.Node // commands that it lacks
	Synopsis string       // what it is, in half a line
}

// Files are the texts for the programs, by file name.
func Files(programs ...Program) map[string]string {
	files := map[string]string{}
	for _, p := range programs {
		root := p.commands()
		files[p.Name+".1"] = page(p, root)
		files[p.Name+".bash"] = bash(p.Name, root)
		files["_"+p.Name] = zsh(p.Name, root)
		files[p.Name+".fish"] = fish(p.Name, root)
	}
	return files
}

// A command is one as people type it.
type command struct {
	path     []string // its words, none for the program itself
	names    []string // the last word, and what else stands for it
	help     string
	flags    []flag // its own; for a command of commands those of its default as well
	above    []flag // of the commands that it belongs to
	args     []argument
	commands []*command
}

// A flag is one of a command.
type flag struct {
	long, short string // without dashes; short may be ""
	value       string // "" if it takes none
	words       []string
	help        string
	env         []string
	multiple    bool
}

// An argument is what stands without a flag.
type argument struct {
	name               string
	optional, multiple bool
	help               string
}

// commands reads the model.
func (p *Program) commands() *command {
	root := p.read(p.Model.Node, nil)
	root.names = []string{p.Name}
	return root
}

func (p *Program) read(n *kong.Node, parent *command) *command {
	c := &command{names: append([]string{n.Name}, n.Aliases...), help: n.Help, flags: flagsOf(n)}
	if parent != nil {
		c.path = append(slices.Clone(parent.path), n.Name)
		c.above = append(slices.Clone(parent.flags), parent.above...)
	}
	for _, a := range n.Positional {
		c.args = append(c.args, argument{strings.ToUpper(a.Name), !a.Required, a.IsCumulative(), a.Help})
	}
	for _, child := range n.Children {
		if !child.Hidden && !slices.Contains(p.Without, child) {
			c.commands = append(c.commands, p.read(child, c))
		}
	}
	if n.DefaultCmd != nil {
		c.flags = append(c.flags, flagsOf(n.DefaultCmd)...)
	}
	return c
}

func flagsOf(n *kong.Node) (flags []flag) {
	for _, f := range n.Flags {
		if f.Hidden {
			continue
		}
		entry := flag{long: f.Name, help: f.Help, env: f.Envs, multiple: f.IsCumulative()}
		if f.Short != 0 {
			entry.short = string(f.Short)
		}
		if !f.IsBool() && !f.IsCounter() {
			entry.value = placeholder(f)
			entry.words = words(f.Enum)
		}
		flags = append(flags, entry)
	}
	return flags
}

func placeholder(f *kong.Flag) string {
	if f.PlaceHolder != "" {
		return f.PlaceHolder
	}
	return strings.ToUpper(f.Name)
}

// words are those of kong's enum; an empty one stands for no value.
func words(enum string) (list []string) {
	for word := range strings.SplitSeq(enum, ",") {
		if word = strings.TrimSpace(word); word != "" {
			list = append(list, word)
		}
	}
	return list
}

// all are the command and those below it, in the order of the help.
func (c *command) all() []*command {
	list := []*command{c}
	for _, child := range c.commands {
		list = append(list, child.all()...)
	}
	return list
}

// takes are the flags that may stand behind the command.
func (c *command) takes() []flag { return append(slices.Clone(c.flags), c.above...) }

// spelt are the flag's forms.
func (f flag) spelt() []string {
	if f.short == "" {
		return []string{"--" + f.long}
	}
	return []string{"-" + f.short, "--" + f.long}
}

// brief is the first sentence of a help text, without its full stop.
func brief(help string) string {
	for _, end := range []string{"; ", ": ", " (", ". "} {
		help, _, _ = strings.Cut(help, end)
	}
	return strings.TrimSuffix(help, ".")
}

// identifier is a name as shells have those of functions.
func identifier(words ...string) string {
	return "_" + strings.ReplaceAll(strings.Join(words, "_"), "-", "_")
}
