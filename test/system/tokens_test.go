// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package system

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/client"
	"github.com/lirios/ostree-upload/internal/page"
	"github.com/lirios/ostree-upload/internal/push"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/site"
)

// tokens is the list of the tokens of a site.
func tokens(s *site.Site) (list page.TokenList) {
	s.T.Helper()
	out := s.Run("tokens", "--repo", "prod", "--json").Must(s.T, 0).Stdout
	must.OK(s.T, json.Unmarshal([]byte(out), &list))
	return list
}

// Twenty processes that edit one file at once, each in its way, lose nothing of each
// other's; also where the file is a mount of its own, as in a container, so that it
// can only be written in place.
func TestEditsAtOnce(t *testing.T) {
	t.Parallel()
	for name, mounted := range map[string]bool{"a file": false, "a mounted file": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := site.At(t, t.TempDir())
			must.OK(t, os.WriteFile(s.Config(), []byte("# the production host\naddress: :8080   # all\n\ntokens:\n  # who pushes\n"), 0o640))
			var commands, want []string
			for i := range 20 {
				name := fmt.Sprint("t", i)
				switch i % 3 {
				case 0:
					s.Run("gentoken", "--name", name).Must(t, 0)
					commands = append(commands, "tokens revoke "+name)
				case 1:
					s.Run("gentoken", "--name", name).Must(t, 0)
					commands = append(commands, "gentoken --name "+name+" --replace --overlap 1h")
					want = append(want, name+" 1")
				case 2:
					commands = append(commands, "gentoken --name "+name)
					want = append(want, name+" 0")
				}
			}
			before, err := os.Stat(s.Config())
			must.OK(t, err)
			atOnce(t, s, mounted, commands)

			var got []string
			for _, x := range tokens(s).Tokens {
				got = append(got, fmt.Sprint(x.Name, " ", len(x.Previous)))
			}
			if slices.Sort(got); !slices.Equal(got, slices.Sorted(slices.Values(want))) {
				t.Errorf("tokens and their earlier secrets: %q, want %q", got, want)
			}
			text, err := os.ReadFile(s.Config())
			must.OK(t, err)
			if head := "# the production host\naddress: :8080   # all\n\ntokens:\n  # who pushes\n"; !strings.HasPrefix(string(text), head) {
				t.Errorf("the file begins otherwise:\n%s", text)
			}
			after, err := os.Stat(s.Config())
			must.OK(t, err)
			if after.Mode() != before.Mode() || mounted && !os.SameFile(before, after) {
				t.Errorf("mode %v, the same file: %t", after.Mode(), os.SameFile(before, after))
			}
			if left, _ := os.ReadDir(s.Dir); len(left) != 1 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// atOnce runs commands of ostree-upload at once, each of which must succeed.
func atOnce(t *testing.T, s *site.Site, mounted bool, commands []string) {
	t.Helper()
	script := "jobs=\n"
	for _, c := range commands {
		script += "ostree-upload " + c + " >/dev/null & jobs=\"$jobs $!\"\n"
	}
	script += "for j in $jobs; do wait $j || failed=1; done; exit $failed\n"
	cmd := exec.Command("sh", "-c", script)
	if mounted {
		const try = "mount --bind ostree-upload.yaml ostree-upload.yaml"
		if out, err := inMounts(s, try).CombinedOutput(); err != nil {
			t.Skipf("needs to mount, as root: %v %s", err, out)
		}
		cmd = inMounts(s, try+"\n"+script)
	}
	cmd.Dir = s.Dir
	site.Finish(t, cmd).Must(t, 0)
}

// inMounts is a shell whose mounts nobody else sees.
func inMounts(s *site.Site, script string) *exec.Cmd {
	cmd := exec.Command("unshare", "--mount", "sh", "-ec", script)
	cmd.Dir = s.Dir
	return cmd
}

// A token that is revoked in the middle of a push ends it; what has arrived is kept
// for the next token of its name. The list tells when it was used, with the server
// running and not.
func TestRevokedInAPush(t *testing.T) {
	t.Parallel()
	s, b := site.New(t), site.Small(t, "os/x86_64/stable", "revoked")
	l := s.Link()
	l.At(b.Payload/2, func() {
		s.Run("tokens", "revoke", "ci").Must(t, 0)
		untilNotKnown(t, s, s.Token)
	})
	e := s.Run("push", "--repo", b.Repo).Must(t, push.ExitRefused)
	if !strings.Contains(e.Stderr, "the token is not known here") {
		t.Errorf("it says %s", e.Stderr)
	}
	half := l.Delivered()
	s.MakeToken()
	must.Wait(t, "the list tells of the use", func() bool { return tokens(s).Tokens[0].LastUse != nil })
	s.Push(b)
	site.Published(t, b, s.Prod)
	if sent := l.Delivered() - half; sent > b.Payload*3/4 {
		t.Errorf("the next push sent %d bytes of %d", sent, b.Payload)
	}
	must.OK(t, s.Server.Stop())
	if list := tokens(s); list.Tokens[0].LastUse == nil || time.Since(*list.Tokens[0].LastUse) > time.Hour {
		t.Errorf("with the server down: %+v", list)
	}
}

// untilNotKnown waits until the server refuses a token.
func untilNotKnown(t *testing.T, s *site.Site, token string) {
	c, err := client.New("http://"+s.Server.Address, token)
	must.OK(t, err)
	defer c.Close()
	must.Wait(t, "the token is refused", func() bool {
		_, err := c.Refs(t.Context())
		return client.Code(err) == wire.Unauthorized
	})
}

// A token that is replaced with an overlap lets a push under way go on, which never
// notices. Where the overlap ends in the middle of it, the push reads the file of the
// token again and goes on, too.
func TestReplacedInAPush(t *testing.T) {
	t.Parallel()
	for name, overlap := range map[string]string{"the overlap lasts": "1h", "the overlap ends": "1s"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, b := site.New(t), site.Small(t, "os/x86_64/stable", "replaced")
			file := filepath.Join(s.Dir, "token")
			must.OK(t, os.WriteFile(file, []byte(s.Token), 0o600))
			l := s.Link()
			l.At(b.Payload/2, func() {
				out := s.Run("gentoken", "--name", "ci", "--replace", "--overlap", overlap).Must(t, 0).Stdout
				if overlap == "1s" {
					must.OK(t, os.WriteFile(file, []byte(out), 0o600))
					untilNotKnown(t, s, s.Token)
				}
			})
			r := s.Push(b, "--token-file", file)
			site.Published(t, b, s.Prod)
			if r.BytesResent > wire.MaxPack {
				t.Errorf("%d bytes were sent again", r.BytesResent)
			}
		})
	}
}
