// SPDX-License-Identifier: AGPL-3.0-or-later

package manual

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/test/must"
)

const generated = "../../packaging/generated"

// The pages are what man and mandoc read without a warning.
func TestPages(t *testing.T) {
	pages, err := filepath.Glob(generated + "/*.1")
	must.OK(t, err)
	if len(pages) != 2 {
		t.Fatalf("the pages are %q", pages)
	}
	checked := 0
	for _, check := range [][]string{{"groff", "-man", "-ww", "-Tutf8", "-z"}, {"mandoc", "-T", "lint"}} {
		if _, err := exec.LookPath(check[0]); err != nil {
			continue
		}
		checked++
		out, err := exec.Command(check[0], append(check[1:], pages...)...).CombinedOutput()
		if err != nil || len(out) > 0 {
			t.Errorf("%s: %v\n%s", check[0], err, out)
		}
	}
	if checked == 0 {
		t.Skip("needs groff or mandoc")
	}
}

// offers is what a shell should offer behind a line, each a word of its answer.
var offers = []struct{ line, want, not string }{
	{"ostree-upload pu", "push", "receive"},
	{"ostree-upload ", "sessions", "--repo"},
	{"ostree-upload receive --tls-", "--tls-cert", "--token"},
	{"ostree-upload sessions ", "abort", "gentoken"},
	{"ostree-upload sessions show --j", "--json", "--jobs"},
	{"ostree-upload sessions --status ", "publishing", "show"},
	{"ostree-upload push --token-file ", "secret", "os/x86_64"},
	{"ostree-upload push --repo build ", "os/x86_64", "secret"},
	{"ostree-upload push --repo=build --branch ", "os/x86_64", "secret"},
	{"ostree-upload push -r ", "build", "secret"},
	{"ostree-upload-client ", "push", "receive"},
}

// Each shell offers commands, flags, words, files and the refs of the repository.
func TestCompletions(t *testing.T) {
	shells := map[string]func(folder, line, want string) *exec.Cmd{
		"bash": inBash, "zsh": inZsh, "fish": inFish,
	}
	for shell, command := range shells {
		t.Run(shell, func(t *testing.T) {
			if _, err := exec.LookPath(shell); err != nil {
				t.Skip("needs " + shell)
			}
			folder, err := filepath.Abs(generated)
			must.OK(t, err)
			dir := t.TempDir()
			must.OK(t, os.MkdirAll(filepath.Join(dir, "build/refs/heads/os"), 0o755))
			must.OK(t, os.WriteFile(filepath.Join(dir, "build/refs/heads/os/x86_64"), nil, 0o644))
			must.OK(t, os.WriteFile(filepath.Join(dir, "secret"), nil, 0o644))
			for _, o := range offers {
				cmd := command(folder, o.line, o.want)
				cmd.Dir, cmd.Env = dir, append(os.Environ(), "TERM=dumb", "HOME="+dir)
				out, err := cmd.CombinedOutput()
				if err != nil || !strings.Contains(string(out), o.want) || strings.Contains(string(out), o.not) {
					t.Errorf("behind %q it offers, with %s and without %s:\n%s%v", o.line, o.want, o.not, out, err)
				}
			}
		})
	}
}

// inBash calls the function as bash does, with the words that it would make.
func inBash(folder, line, _ string) *exec.Cmd {
	program, _, _ := strings.Cut(line, " ")
	return exec.Command("bash", "-c", `
		compopt() { :; }
		. "$1"
		IFS=' ' read -r -a COMP_WORDS <<<"${2//=/ = }"
		[[ $2 != *' ' ]] || COMP_WORDS+=('')
		COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
		"$3"
		printf '%s\n' "${COMPREPLY[@]}"`, "bash", filepath.Join(folder, program+".bash"), line, identifier(program))
}

// inZsh waits until the word is offered: zsh lists nothing while keys wait to be read.
func inZsh(folder, line, want string) *exec.Cmd {
	script, err := filepath.Abs("testdata/zsh-offers")
	if err != nil {
		panic(err)
	}
	return exec.Command("timeout", "60", "zsh", "-f", script, folder, line, want)
}

func inFish(folder, line, _ string) *exec.Cmd {
	program, _, _ := strings.Cut(line, " ")
	return exec.Command("fish", "--no-config", "-c", `source $argv[1]; complete -C $argv[2]`, filepath.Join(folder, program+".fish"), line)
}
