// SPDX-License-Identifier: AGPL-3.0-or-later

package manual

import (
	"fmt"
	"strings"
)

// fish is a completion of one line for each command and flag.
func fish(program string, root *command) string {
	var b strings.Builder
	fmt.Fprintf(&b, fishFrame, program, identifier(program), program)
	for _, c := range root.all() {
		here := fishHere(root, c)
		for _, child := range c.commands {
			fmt.Fprintf(&b, "complete -c %s -n %s -a %s -d %s\n", program, fishQuote(here), fishQuote(strings.Join(child.names, " ")), fishQuote(brief(child.help)))
		}
		for _, f := range c.takes() {
			fmt.Fprintf(&b, "complete -c %s -n %s%s -d %s\n", program, fishQuote(here), fishFlag(program, f), fishQuote(brief(f.help)))
		}
		if len(c.args) > 0 && c.args[0].name == "REF" {
			fmt.Fprintf(&b, "complete -c %s -n %s -a '(%s_local_refs)'\n", program, fishQuote(here), identifier(program))
		}
	}
	return b.String()
}

const fishFrame = `# SPDX-License-Identifier: AGPL-3.0-or-later
# Completion of %s for fish. Made by make generated.

function %s_local_refs
    set -l repo repo
    set -q OSTREE_UPLOAD_REPO; and set repo $OSTREE_UPLOAD_REPO
    set -l words (commandline -opc)
    for i in (seq (count $words))
        switch $words[$i]
            case -r --repo
                set repo $words[(math $i + 1)]
            case '--repo=*'
                set repo (string replace -- --repo= '' $words[$i])
        end
    end
    test -d $repo/refs/heads; and find $repo/refs/heads -type f | string replace -- $repo/refs/heads/ ''
end

complete -c %s -f
`

// fishHere is the condition that a command, and none below it, is being typed.
func fishHere(root, c *command) string {
	if c == root {
		return "__fish_use_subcommand"
	}
	var parts []string
	at := root
	for _, word := range c.path {
		for _, child := range at.commands {
			if child.names[0] == word {
				at = child
				break
			}
		}
		parts = append(parts, "__fish_seen_subcommand_from "+strings.Join(at.names, " "))
	}
	if len(c.commands) > 0 {
		var below []string
		for _, child := range c.commands {
			below = append(below, child.names...)
		}
		parts = append(parts, "not __fish_seen_subcommand_from "+strings.Join(below, " "))
	}
	return strings.Join(parts, "; and ")
}

func fishFlag(program string, f flag) string {
	line := " -l " + f.long
	if f.short != "" {
		line += " -s " + f.short
	}
	switch {
	case f.value == "":
		return line
	case len(f.words) > 0:
		return line + " -x -a " + fishQuote(strings.Join(f.words, " "))
	case f.value == "FILE":
		return line + " -r -F"
	case f.value == "DIR", f.value == "REPO":
		return line + " -x -a '(__fish_complete_directories)'"
	case f.value == "REF":
		return fmt.Sprintf("%s -x -a '(%s_local_refs)'", line, identifier(program))
	}
	return line + " -x"
}

// fishQuote makes one word of text; fish has escapes within quotes.
func fishQuote(text string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(text) + "'"
}
