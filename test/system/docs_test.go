// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package system

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/site"
)

// The README's and the docs' commands do what the pages say. Each block of commands is
// run, from the page itself, unless `<!-- not run: why -->` stands before it. The
// blocks of a page are one script, and those after `<!-- script: name -->` are one of
// their own. They differ from the page in what inTest replaces.
func TestDocs(t *testing.T) {
	t.Parallel()
	ran := 0
	for _, glob := range []string{"../../README.md", "../../docs/*.md", "../../docs/decisions/*.md"} {
		paths, err := filepath.Glob(glob)
		must.OK(t, err)
		for _, path := range paths {
			page, err := os.ReadFile(path)
			must.OK(t, err)
			scripts := map[string]string{}
			for _, b := range commandBlocks(string(page)) {
				if !b.marked {
					scripts[b.script] += fmt.Sprintf("echo '--- line %d' >&2\n%s\n", b.line, inTest(b.text))
					ran++
				}
			}
			for name, script := range scripts {
				t.Run(filepath.Join(filepath.Base(path), name), func(t *testing.T) {
					if _, err := exec.LookPath("flatpak"); name == "flatpak" && err != nil {
						t.Skip("flatpak is not installed")
					}
					runPage(t, given[name]+script)
				})
			}
		}
	}
	if ran < 6 {
		t.Errorf("only %d blocks of commands were found", ran)
	}
}

// A commandBlock is a block of a page that is indented or fenced as sh. All else in a
// fixed width is fenced with another language.
type commandBlock struct {
	line   int // its first
	text   string
	marked bool   // as not to be run
	script string // that it belongs to, "" for that of the page
}

var (
	mark     = regexp.MustCompile(`^<!-- not run: .+ -->$`)
	script   = regexp.MustCompile(`^<!-- script: ([a-z]+) -->$`)
	listItem = regexp.MustCompile(`^\s*([-*]|\d+\.) `)
)

// commandBlocks finds those of a page.
func commandBlocks(page string) (blocks []commandBlock) {
	lines, last := strings.Split(page, "\n"), "" // the last line that is not blank
	for i := 0; i < len(lines); i++ {
		b := commandBlock{line: i + 1, marked: mark.MatchString(last)}
		if m := script.FindStringSubmatch(last); m != nil {
			b.script = m[1]
		}
		switch language, fenced := strings.CutPrefix(lines[i], "```"); {
		case fenced:
			for i++; i < len(lines) && lines[i] != "```"; i++ {
				b.text += lines[i] + "\n"
			}
			if language == "sh" || language == "" {
				blocks = append(blocks, b)
			}
		case strings.HasPrefix(lines[i], "    ") && lines[i-1] == "" && !listItem.MatchString(last):
			for ; i < len(lines) && (lines[i] == "" || strings.HasPrefix(lines[i], "    ")); i++ {
				b.text += strings.TrimPrefix(lines[i], "    ") + "\n"
			}
			i--
			blocks = append(blocks, b)
		}
		if lines[i] != "" {
			last = lines[i]
		}
	}
	return blocks
}

// replacements turn what a page takes from the reader, or shows in two terminals, into
// what one script has.
var replacements = []struct {
	in  *regexp.Regexp
	out string
}{
	{regexp.MustCompile(`repo\.example\.org:8080`), `$$AT`},
	{regexp.MustCompile(`https://repo\.example\.org/repo`), `file://$$PWD/srv/repo`},
	{regexp.MustCompile(`/srv/ostree`), `$$PWD/srv`},
	{regexp.MustCompile(`/var/lib/ostree-upload`), `$$PWD/lib`},
	{regexp.MustCompile(`/usr/local/bin`), `$$PWD/bin`},
	{regexp.MustCompile(`ssh .* signer gpg`), `gpg --homedir $$SIGNER`},
	{regexp.MustCompile(`/etc/ssl/repo`), `$$PWD/tls`},
	{regexp.MustCompile(`(?m)^(ostree-upload gentoken [^#\n]*)`), `PRINTED=$$($1) `},
	{regexp.MustCompile(`OSTREE_UPLOAD_TOKEN=0123\.\.\.`), `OSTREE_UPLOAD_TOKEN=$$PRINTED`},
	{regexp.MustCompile(`(?m)^(ostree-upload receive [^&\n]*)$`), `$1 & SERVER=$$!`},
	{regexp.MustCompile(`(?m)^(ostree-upload .*--watch) *(#.*)?$`), `$1 &`},
	{regexp.MustCompile(`(?m)^kill \$!`), `kill $$!; wait $$! `},
	{regexp.MustCompile(`(?m)^(ostree-upload check)`), `stop; $1`},
	{regexp.MustCompile(`\bSESSION\b`), `$$S`},
	{regexp.MustCompile(`\bHELD\b`), `$$(held)`},
	{regexp.MustCompile(`\bPREVIEW\b`), `$$(ostree-upload sessions show $$(held) --json | sed -n "s|.*\"preview\": \"\(.*\)\".*|$$OSTREE_UPLOAD_ADDRESS/\1|p")`},
}

func inTest(block string) string {
	if strings.Contains(block, "SESSION") {
		block = "S=$(opened)\n" + block
	}
	for _, r := range replacements {
		block = r.in.ReplaceAllString(block, r.out)
	}
	return block
}

// granted is what a page takes for granted. A page that starts no server has one.
const granted = `set -eu
export OSTREE_UPLOAD_ADDRESS=http://$AT
mkdir tls
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost -addext subjectAltName=IP:${AT%:*} \
	-keyout tls/key.pem -out tls/cert.pem 2>/dev/null
export SSL_CERT_FILE=$PWD/tls/cert.pem CURL_CA_BUNDLE=$PWD/tls/cert.pem
trap 'kill $(jobs -p) 2>/dev/null || true; wait || true; for home in lib/gpg signer; do gpgconf --homedir $PWD/$home --kill all; done' EXIT
opened() {
	curl -sSf -H "Authorization: Bearer $OSTREE_UPLOAD_TOKEN" -d '{"refs":[{"ref":"os/open","new":"'$(printf 'a%.0s' {1..64})'"}]}' \
		$OSTREE_UPLOAD_ADDRESS/api/v1/sessions | sed 's/^{"id":"\([a-z2-7]*\)".*/\1/'
}
stop() { [ -z "$SERVER" ] || { kill $SERVER; wait $SERVER; SERVER=; }; }
`

// given is what the scripts of some names take for granted besides.
var given = map[string]string{
	"refs":    withRefs,
	"held":    withClients + heldID,
	"release": withClients + heldID,
	"signed":  withClients,
	"flatpak": withFlatpak,
	"elsewhere": withClients + `export SIGNER=$PWD/signer
install -d -m 700 $SIGNER
gpg --homedir $SIGNER --batch --passphrase '' --quick-generate-key os@example.org ed25519 sign never
gpg --homedir $SIGNER --export os@example.org >example.gpg
`,
}

// heldID finds the one session that is held.
const heldID = "held() { ostree-upload sessions --status held | sed -n '2s/ .*//p'; }\n"

// withRefs are refs that were published, of which one is to get what another has.
const withRefs = `mkdir tree
ostree init --repo=build --mode=archive
for ref in os/x86_64/testing os/x86_64/stable os/arm/testing os/arm/stable; do
	echo $ref >tree/file
	ostree commit --repo=build --branch=$ref --tree=dir=tree --no-bindings --timestamp=2026-11-01T00:00:00Z
done
ostree refs --repo=build --create=os/arm/stable --force os/arm/testing
ostree-upload push --repo build
`

const withClients = `mkdir tree lib && echo hello >tree/hello
ostree init --repo=build --mode=archive
ostree commit --repo=build --branch=os/x86_64/stable --tree=dir=tree
ostree init --repo=client --mode=archive
`

// withFlatpak is an application that was built, and a client that has its runtime.
const withFlatpak = `mkdir -p lib app/files/bin app/export platform/files platform/usr run
export HOME=$PWD/home XDG_DATA_HOME=$PWD/data XDG_CACHE_HOME=$PWD/cache XDG_RUNTIME_DIR=$PWD/run
export FLATPAK_USER_DIR=$PWD/user FLATPAK_SYSTEM_DIR=$PWD/system FLATPAK_SYSTEM_CACHE_DIR=$PWD/systemcache
printf '[Runtime]\nname=org.example.Platform\nruntime=org.example.Platform/%s/1\n' $(flatpak --default-arch) >platform/metadata
printf '[Application]\nname=org.example.App\nruntime=org.example.Platform/%s/1\n' $(flatpak --default-arch) >app/metadata
flatpak build-export --disable-sandbox --runtime --files=usr platforms platform 1
flatpak build-export --disable-sandbox build app stable
flatpak remote-add --user --no-gpg-verify platforms platforms
flatpak install --user -y platforms org.example.Platform
`

const withServer = `export OSTREE_UPLOAD_TOKEN=$(ostree-upload gentoken --name reader --scope admin)
ostree-upload receive --init & SERVER=$!
curl -sSf --retry 60 --retry-connrefused --retry-delay 1 $OSTREE_UPLOAD_ADDRESS/healthz
`

// wrapper is the program, but that a server listens where the test says.
const wrapper = `#!/bin/sh
[ "$1" != receive ] || { shift; set -- receive --address $AT "$@"; }
exec "$PROGRAM" "$@"
`

func runPage(t *testing.T, script string) {
	t.Parallel()
	dir := t.TempDir()
	program, err := exec.LookPath("ostree-upload")
	must.OK(t, err)
	if !strings.Contains(script, "ostree-upload receive") {
		script = withServer + script
	}
	must.OK(t, os.Mkdir(filepath.Join(dir, "bin"), 0o755))
	must.OK(t, os.WriteFile(filepath.Join(dir, "bin/ostree-upload"), []byte(wrapper), 0o755))
	must.OK(t, os.WriteFile(filepath.Join(dir, "ostree-upload.yaml"), []byte("limits: {min-free-space: 0}\n"), 0o600))
	ctx, cancel := context.WithTimeout(t.Context(), 5*must.Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", granted+script)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "AT="+site.FreeAddress(t), "PROGRAM="+program, "PATH="+filepath.Join(dir, "bin")+":"+os.Getenv("PATH"))
	cmd.WaitDelay = must.Patience // a server may hold the output
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s\nthe script:\n%s", err, out, script)
	}
}

// A block that is to run is found with its mark and its line, and only such.
func TestCommandBlocks(t *testing.T) {
	page := "# Page\n\nText:\n\n    one\n\n    two\n\nMore.\n\n<!-- not run: it is dear -->\n\n    three\n\n```yaml\na: b\n```\n\n```sh\nfour\n```\n\n<!-- script: more -->\n\n    five\n\n- item\n\n      of the list\n"
	want := []commandBlock{{5, "one\n\ntwo\n\n", false, ""}, {13, "three\n\n", true, ""}, {19, "four\n", false, ""}, {25, "five\n\n", false, "more"}}
	if got := commandBlocks(page); !slices.Equal(got, want) {
		t.Errorf("found %+v, want %+v", got, want)
	}
}
