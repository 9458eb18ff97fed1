// SPDX-License-Identifier: AGPL-3.0-or-later

package manual

import (
	"fmt"
	"slices"
	"strings"
)

// page is the manual page, in the macros of man(7).
func page(p Program, root *command) string {
	var b strings.Builder
	fmt.Fprintf(&b, ".\\\" SPDX-License-Identifier: AGPL-3.0-or-later\n.\\\" Made by make generated.\n")
	fmt.Fprintf(&b, ".TH %s 1 %s \"OSTree upload\" \"User Commands\"\n", escape(strings.ToUpper(p.Name)), changed)
	fmt.Fprintf(&b, ".SH NAME\n%s \\-\n%s", escape(p.Name), text(p.Synopsis))
	b.WriteString(".SH SYNOPSIS\n")
	leaves := slices.DeleteFunc(root.all(), func(c *command) bool { return len(c.commands) > 0 })
	for i, c := range leaves {
		if i > 0 {
			b.WriteString(".br\n")
		}
		fmt.Fprintf(&b, "%s\n", usage(p.Name, c))
	}
	fmt.Fprintf(&b, ".SH DESCRIPTION\n%s", text(root.help))
	b.WriteString(".SH OPTIONS\nOf every command:\n")
	writeFlags(&b, root.flags)
	b.WriteString(".SH COMMANDS\n")
	for _, c := range root.all()[1:] {
		writeCommand(&b, p.Name, c)
	}
	writeEnvironment(&b, root)
	b.WriteString(strings.ReplaceAll(rest, "PROGRAM", escape(p.Name)))
	return b.String()
}

// usage is a command in one line.
func usage(program string, c *command) string {
	line := fmt.Sprintf("\\fB%s\\fR", escape(strings.Join(append([]string{program}, c.path...), " ")))
	if len(c.takes()) > 0 {
		line += " [\\fIoption\\fR]..."
	}
	for _, a := range c.args {
		form := "\\fI" + escape(a.name) + "\\fR"
		if a.optional {
			form = "[" + form + "]"
		}
		if a.multiple {
			form += "..."
		}
		line += " " + form
	}
	return line
}

func writeCommand(b *strings.Builder, program string, c *command) {
	if len(c.commands) > 0 {
		fmt.Fprintf(b, ".SS %s\n%sOptions of all its commands:\n", escape(strings.Join(c.path, " ")), text(c.help))
		writeFlags(b, c.flags)
		return
	}
	fmt.Fprintf(b, ".SS %s\n%s\n.PP\n%s", escape(strings.Join(c.path, " ")), usage(program, c), text(c.help))
	if others := c.names[1:]; len(others) > 0 {
		fmt.Fprintf(b, "Also called \\fB%s\\fR.\n", escape(strings.Join(others, ", ")))
	}
	for _, a := range c.args {
		fmt.Fprintf(b, ".TP\n\\fI%s\\fR\n%s", escape(a.name), text(a.help))
	}
	writeFlags(b, c.flags)
}

func writeFlags(b *strings.Builder, flags []flag) {
	for _, f := range flags {
		var forms []string
		for _, form := range f.spelt() {
			forms = append(forms, "\\fB"+escape(form)+"\\fR")
		}
		line := strings.Join(forms, ", ")
		if f.value != "" {
			line += "=\\fI" + escape(f.value) + "\\fR"
		}
		fmt.Fprintf(b, ".TP\n%s\n%s", line, text(f.help))
		if len(f.words) > 0 {
			fmt.Fprintf(b, "%s", text("One of "+strings.Join(f.words, ", ")+"."))
		}
		if len(f.env) > 0 {
			fmt.Fprintf(b, "Variable: \\fB%s\\fR.\n", escape(strings.Join(f.env, ", ")))
		}
	}
}

// writeEnvironment lists the variables that stand for flags.
func writeEnvironment(b *strings.Builder, root *command) {
	stands := map[string][]string{}
	for _, c := range root.all() {
		for _, f := range c.flags {
			for _, env := range f.env {
				if long := "--" + f.long; !slices.Contains(stands[env], long) {
					stands[env] = append(stands[env], long)
				}
			}
		}
	}
	b.WriteString(".SH ENVIRONMENT\n")
	for _, env := range sorted(stands) {
		fmt.Fprintf(b, ".TP\n\\fB%s\\fR\nStands for \\fB%s\\fR, which wins.\n", escape(env), escape(strings.Join(stands[env], ", ")))
	}
}

// changed is when rest was changed for the last time.
const changed = "2026-11-26"

// rest is what the definitions do not say.
const rest = `.TP
\fBHTTPS_PROXY\fR, \fBHTTP_PROXY\fR, \fBALL_PROXY\fR, \fBNO_PROXY\fR
The proxies through which the server is reached.
.SH EXIT STATUS
.TP
0
Done, or nothing to do.
.TP
1
Failed for good; the session is unknown, aborted or expired.
.TP
2
Wrong usage.
.TP
3
Refused: by the token, a policy or a limit, or the ref has moved.
.TP
75
Gave up for now: the server was not reached, or has no space.
The session lives, and the same command goes on.
.TP
130
Interrupted. The session lives, and the same command goes on.
.SH EXAMPLES
.EX
export OSTREE_UPLOAD_ADDRESS=https://updates.example.org
PROGRAM push \-\-repo build \-\-token\-file token os/x86_64/stable
PROGRAM sessions \-\-status open
.EE
.SH SEE ALSO
.BR ostree (1)
.PP
https://github.com/lirios/ostree\-upload
`

// text is a paragraph in lines of some 75 characters.
func text(paragraph string) string {
	var b strings.Builder
	line := ""
	for _, word := range strings.Fields(paragraph) {
		if line != "" && len(line)+len(word) > 75 {
			fmt.Fprintln(&b, escape(line))
			line = ""
		}
		line = strings.TrimPrefix(line+" "+word, " ")
	}
	fmt.Fprintln(&b, escape(line))
	return b.String()
}

// escape makes text of a line what roff prints as it is.
func escape(text string) string {
	text = strings.NewReplacer(`\`, `\e`, `-`, `\-`, "'", `\(aq`, "^", `\(ha`, "~", `\(ti`, "`", `\(ga`).Replace(text)
	if strings.HasPrefix(text, ".") {
		text = `\&` + text
	}
	return text
}
