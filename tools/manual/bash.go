// SPDX-License-Identifier: AGPL-3.0-or-later

package manual

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// bash is a completion that needs no other script.
func bash(program string, root *command) string {
	var paths, offers, values strings.Builder
	for _, c := range root.all() {
		for _, child := range c.commands {
			fmt.Fprintf(&paths, "\t\t%s) path=%s ;;\n", patterns(c.path, child.names), quote(strings.Join(child.path, " ")))
		}
		writeOffer(&offers, c)
		for _, f := range c.takes() {
			if reply := bashValue(program, f.value, f.words); reply != "" {
				fmt.Fprintf(&values, "\t%s) %s; return ;;\n", patterns(c.path, f.spelt()), reply)
			}
		}
	}
	return strings.NewReplacer(
		"FUNCTION", identifier(program), "PROGRAM", program, "WITH_VALUE", strings.Join(withValue(root), " | "),
		"PATHS\n", paths.String(), "OFFERS\n", offers.String(), "VALUES\n", values.String(),
	).Replace(bashFrame)
}

const bashFrame = `# SPDX-License-Identifier: AGPL-3.0-or-later
# Completion of PROGRAM for bash. Made by make generated.

FUNCTION_local_refs() {
	local repo=${OSTREE_UPLOAD_REPO:-repo} i
	for ((i = 1; i < COMP_CWORD; i++)); do
		case ${COMP_WORDS[i]} in
		-r | --repo)
			repo=${COMP_WORDS[i + 1]}
			[[ $repo != = ]] || repo=${COMP_WORDS[i + 2]}
			;;
		esac
	done
	(cd "$repo/refs/heads" 2>/dev/null && find . -type f | sed 's|^\./||')
}

FUNCTION_reply() { mapfile -t COMPREPLY < <(compgen "$@" -- "$cur"); }

FUNCTION_files() {
	compopt -o filenames
	FUNCTION_reply "$1"
}

FUNCTION() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
	if [[ $cur == = ]]; then
		cur=
	elif [[ $prev == = ]]; then
		prev=${COMP_WORDS[COMP_CWORD - 2]}
	fi
	local path='' value='' word flags='' commands='' argument=''
	for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
		if [[ $word == = ]]; then
			value=1
			continue
		elif [[ $value ]]; then
			value=
			continue
		fi
		case $word in
		WITH_VALUE) value=1 ;;
		esac
		case "$path $word" in
PATHS
		esac
	done
	COMPREPLY=()
	case "$path $prev" in
VALUES
	esac
	case $prev in
	WITH_VALUE) return ;;
	esac
	case $path in
OFFERS
	esac
	if [[ $cur == -* ]]; then
		FUNCTION_reply -W "$flags"
	elif [[ $commands ]]; then
		FUNCTION_reply -W "$commands"
	elif [[ $argument == REF ]]; then
		FUNCTION_reply -W "$(FUNCTION_local_refs)"
	fi
}

complete -F FUNCTION PROGRAM
`

// writeOffer writes what may stand behind a command.
func writeOffer(b *strings.Builder, c *command) {
	var flags, commands []string
	for _, f := range c.takes() {
		flags = append(flags, f.spelt()...)
	}
	for _, child := range c.commands {
		commands = append(commands, child.names...)
	}
	fmt.Fprintf(b, "\t%s)\n\t\tflags=%s\n", quote(strings.Join(c.path, " ")), quote(strings.Join(flags, " ")))
	if len(commands) > 0 {
		fmt.Fprintf(b, "\t\tcommands=%s\n", quote(strings.Join(commands, " ")))
	}
	if len(c.args) > 0 {
		fmt.Fprintf(b, "\t\targument=%s\n", c.args[0].name)
	}
	b.WriteString("\t\t;;\n")
}

// bashValue completes the value of a flag, if it can.
func bashValue(program, value string, words []string) string {
	reply := identifier(program)
	switch {
	case len(words) > 0:
		return reply + "_reply -W " + quote(strings.Join(words, " "))
	case value == "FILE":
		return reply + "_files -f"
	case value == "DIR", value == "REPO":
		return reply + "_files -d"
	case value == "REF":
		return fmt.Sprintf("%s_reply -W \"$(%s_local_refs)\"", reply, reply)
	}
	return ""
}

// patterns match each of the words behind a command.
func patterns(path, words []string) string {
	var list []string
	for _, w := range words {
		list = append(list, quote(strings.Join(path, " ")+" "+w))
	}
	return strings.Join(list, " | ")
}

// withValue are the forms of all flags that take a value.
func withValue(root *command) []string {
	forms := map[string]bool{}
	for _, c := range root.all() {
		for _, f := range c.flags {
			if f.value != "" {
				for _, form := range f.spelt() {
					forms[form] = true
				}
			}
		}
	}
	return sorted(forms)
}

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// quote makes one word of text, in any shell.
func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }
