// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package system

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/site"
)

// What asks a bucket without credentials says what is lacking and where the server has them
// from. What the server does, or what needs no bucket, needs none.
func TestCommandsNeedCredentials(t *testing.T) {
	t.Parallel()
	s := site.At(t, t.TempDir())
	s.MakeToken()
	s.InBucket()
	t.Cleanup(s.End)
	run := func(with bool, args ...string) site.Ending {
		cmd := s.Command(args...)
		if !with {
			cmd.Env = slices.DeleteFunc(cmd.Env, func(set string) bool {
				return strings.HasPrefix(set, "AWS_ACCESS_KEY_ID=") || strings.HasPrefix(set, "AWS_SECRET_ACCESS_KEY=") || strings.HasPrefix(set, "AWS_PROFILE=")
			})
		}
		return site.Finish(t, cmd)
	}
	lacks := func(e site.Ending) {
		t.Helper()
		e.Must(t, 1)
		for _, says := range []string{
			": there are no credentials: not in the environment (it lacks AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_PROFILE), in /dev/null ",
			"\nhint: this command asks the store itself, so give it the credentials that the server has: ", "`systemctl show -p EnvironmentFiles ostree-upload`",
		} {
			if !strings.Contains(e.Stderr, says) {
				t.Errorf("it does not say %q:\n%s", says, e.Stderr)
			}
		}
	}
	if e := run(false, "check").Must(t, 0); !strings.Contains(e.Stdout, "nothing was ever received here") {
		t.Errorf("before the first start: %s", e.Stdout)
	}
	s.Start("--init")
	b := &site.Build{Repo: filepath.Join(s.Dir, "build"), Ref: "os/x"}
	site.Chain(t, b.Repo, b.Ref, 1)
	s.Push(b)
	run(false, "prune", "--dry-run").Must(t, 0) // the server does it
	if e := run(false, "check").Must(t, 1); !strings.Contains(e.Stderr, "another ostree-upload serves ") {
		t.Errorf("while the server runs: %s", e.Stderr)
	}
	lacks(run(false, "check", "--content"))
	run(true, "check", "--content").Must(t, 0)
	must.OK(t, s.Server.Stop())
	for _, args := range [][]string{{"check"}, {"check", "--content"}, {"prune", "--dry-run"}} {
		lacks(run(false, args...))
		run(true, args...).Must(t, 0)
	}
}
