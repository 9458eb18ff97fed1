// SPDX-License-Identifier: AGPL-3.0-or-later

package manual

import (
	"fmt"
	"strings"
)

// zsh is a completion of one function for each command.
func zsh(program string, root *command) string {
	var b strings.Builder
	fmt.Fprintf(&b, "#compdef %s\n# SPDX-License-Identifier: AGPL-3.0-or-later\n# Completion of %s for zsh. Made by make generated.\n", program, program)
	fmt.Fprintf(&b, zshRefs, identifier(program))
	for _, c := range root.all() {
		writeZshCommand(&b, program, c)
	}
	fmt.Fprintf(&b, "\n%s \"$@\"\n", identifier(program))
	return b.String()
}

const zshRefs = `
%s_local_refs() {
	local repo=${opt_args[--repo]:-${opt_args[-r]:-${OSTREE_UPLOAD_REPO:-repo}}}
	local -a refs=(${(Q)~repo}/refs/heads/**/*(N.))
	refs=(${refs#${(Q)~repo}/refs/heads/})
	compadd -a refs
}
`

func writeZshCommand(b *strings.Builder, program string, c *command) {
	name := identifier(append([]string{program}, c.path...)...)
	fmt.Fprintf(b, "\n%s() {\n", name)
	if len(c.commands) > 0 {
		b.WriteString("\tlocal curcontext=\"$curcontext\" state line\n\ttypeset -A opt_args\n\t_arguments -C \\\n")
	} else {
		b.WriteString("\ttypeset -A opt_args\n\t_arguments \\\n")
	}
	for _, f := range c.takes() {
		fmt.Fprintf(b, "\t\t%s \\\n", zshFlag(program, f))
	}
	if len(c.commands) > 0 {
		writeZshCommands(b, name, c)
		return
	}
	for _, a := range c.args {
		count := ""
		if a.multiple {
			count = "*"
		}
		fmt.Fprintf(b, "\t\t%s \\\n", quote(fmt.Sprintf("%s:%s:%s", count, a.name, zshValue(program, a.name, nil))))
	}
	b.WriteString("\t\t&& return\n}\n")
}

// writeZshCommands writes the rest of a command that has commands.
func writeZshCommands(b *strings.Builder, name string, c *command) {
	b.WriteString("\t\t'1: :->command' \\\n\t\t'*:: :->arguments' && return\n\tcase $state in\n\tcommand)\n\t\tlocal -a commands=(\n")
	for _, child := range c.commands {
		for _, word := range child.names {
			fmt.Fprintf(b, "\t\t\t%s\n", quote(word+":"+brief(child.help)))
		}
	}
	b.WriteString("\t\t)\n\t\t_describe command commands\n\t\t;;\n\targuments)\n\t\tcase $line[1] in\n")
	for _, child := range c.commands {
		fmt.Fprintf(b, "\t\t%s) %s ;;\n", strings.Join(child.names, " | "), name+identifier(child.names[0]))
	}
	b.WriteString("\t\tesac\n\t\t;;\n\tesac\n}\n")
}

// zshFlag is a flag as _arguments has it.
func zshFlag(program string, f flag) string {
	help := "[" + strings.NewReplacer("[", "(", "]", ")", ":", `\:`).Replace(brief(f.help)) + "]"
	value := ""
	if f.value != "" {
		value = fmt.Sprintf(":%s:%s", f.value, zshValue(program, f.value, f.words))
		help = "=" + help
	}
	forms := f.spelt()
	if len(forms) == 1 {
		return quote(once(f, "") + forms[0] + help + value)
	}
	short, long := forms[0], forms[1]
	shortHelp := strings.TrimPrefix(help, "=")
	if f.value != "" {
		shortHelp = "+" + shortHelp
	}
	return quote(once(f, short+" "+long)+short+shortHelp+value) + " " + quote(once(f, short+" "+long)+long+help+value)
}

// once keeps a flag from being offered again, unless it may be repeated.
func once(f flag, forms string) string {
	switch {
	case f.multiple:
		return "*"
	case forms == "":
		return ""
	}
	return "(" + forms + ")"
}

func zshValue(program, value string, words []string) string {
	switch {
	case len(words) > 0:
		return "(" + strings.Join(words, " ") + ")"
	case value == "FILE":
		return "_files"
	case value == "DIR", value == "REPO":
		return "_files -/"
	case value == "REF":
		return identifier(program) + "_local_refs"
	}
	return " "
}
