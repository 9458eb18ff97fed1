// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package system

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/idp"
	"github.com/lirios/ostree-upload/test/link"
	"github.com/lirios/ostree-upload/test/site"
)

// A job is a command in GitHub Actions, which has no token but the runner's.
func job(s *site.Site, github string, args ...string) *exec.Cmd {
	cmd := s.Command(args...)
	cmd.Env = append(cmd.Env, "OSTREE_UPLOAD_TOKEN=", "GITHUB_ACTIONS=true",
		"ACTIONS_ID_TOKEN_REQUEST_URL="+github, "ACTIONS_ID_TOKEN_REQUEST_TOKEN=runner")
	return cmd
}

// trust lets the jobs of example/os push with the ID tokens of an issuer.
func trust(s *site.Site, issuer *idp.Issuer, audience string) {
	s.T.Helper()
	s.Configure(fmt.Sprintf("oidc: [{issuer: %q, audience: %q, claims: {repository: example/os, ref: refs/heads/*}, name: gh-os, refs: ['os/**']}]", issuer.URL, audience))
}

// A job pushes with ID tokens that are valid for a few seconds, over a link on which that
// takes longer: it is one push and one session, and no ID token stands anywhere. Half way
// the issuer changes its key.
func TestPushFromGitHub(t *testing.T) {
	t.Parallel()
	s, b, issuer := site.New(t), site.Small(t, "os/a", "github"), idp.Start(t)
	l := s.Link()
	l.Set(link.Faults{Rate: b.Payload / 20})
	l.At(b.Payload/2, issuer.Rotate)
	trust(s, issuer, s.URL)
	github := issuer.GitHub("runner", 6*time.Second)
	out := site.Finish(t, job(s, github, "push", "--repo", b.Repo)).Must(t, 0)
	if strings.Contains(out.Stderr, "trying again") {
		t.Errorf("a person is told of what is in order:\n%s", out.Stderr)
	}
	site.Published(t, b, s.Prod)
	if n := issuer.Given(); n < 4 {
		t.Errorf("%d ID tokens were enough", n)
	}
	if n := strings.Count(s.Server.Log.String(), `msg="session opened"`); n != 1 {
		t.Errorf("%d sessions", n)
	}
	if !strings.Contains(s.Server.Log.String(), "token=gh-os subject=repo:example/os:ref:refs/heads/main") {
		t.Error("the log does not say which job it was")
	}
	if all := out.Stdout + out.Stderr + s.Server.Log.String(); strings.Contains(all, ".eyJ") {
		t.Errorf("an ID token is told:\n%s", all)
	}
}

// Without a right to push, a job learns what it lacks: the audience, the claims, the ref.
func TestPushFromGitHubRefused(t *testing.T) {
	t.Parallel()
	s, issuer := site.New(t), idp.Start(t)
	b, other := site.Small(t, "os/a", "refused"), site.Small(t, "other", "other")
	trust(s, issuer, "https://repo.example.org")
	github := issuer.GitHub("runner", time.Minute)
	for _, tt := range []struct {
		repo string
		args []string
		want string
	}{
		{b.Repo, nil, `the ID token is for the audience "` + s.URL + `"`},
		{b.Repo, []string{"--audience", "elsewhere"}, "hint: ask for an ID token with the audience"},
		{other.Repo, []string{"--audience", "https://repo.example.org"}, "token gh-os may not push ref other"},
	} {
		args := append([]string{"push", "--repo", tt.repo}, tt.args...)
		if out := site.Finish(t, job(s, github, args...)).Must(t, 3); !strings.Contains(out.Stderr, tt.want) {
			t.Errorf("%q: want %q\n%s", args, tt.want, out.Stderr)
		}
	}
	site.Finish(t, job(s, github, "push", "--repo", b.Repo, "--audience", "https://repo.example.org")).Must(t, 0)
	site.Published(t, b, s.Prod)
	if out := site.Finish(t, job(s, github, "sessions", "--audience", "https://repo.example.org")).Must(t, 0); !strings.Contains(out.Stdout, "gh-os") {
		t.Errorf("its session is not listed:\n%s", out.Stdout)
	}
	if out := site.Finish(t, job(s, "http://127.0.0.1:1/?a=b", "push", "--repo", b.Repo)).Must(t, 75); !strings.Contains(out.Stderr, "get an ID token from GitHub") {
		t.Errorf("without GitHub:\n%s", out.Stderr)
	}
}

// A server whose issuer is down starts, tells a job to try again, and the job waits
// beyond the time that it gives a server that never answered.
func TestPushWhileIssuerIsDown(t *testing.T) {
	t.Parallel()
	s, b, issuer := site.New(t), site.Small(t, "os/a", "down"), idp.Start(t)
	trust(s, issuer, s.URL)
	issuer.Fail(idp.Down)
	github := issuer.GitHub("runner", time.Minute)
	wait := site.Background(t, job(s, github, "push", "--repo", b.Repo))
	for issuer.Requests() == 0 {
		// a token works meanwhile
		if got := s.Sessions(wire.Open); len(got) != 0 {
			t.Fatalf("%+v", got)
		}
	}
	issuer.Fail(nil)
	wait().Must(t, 0)
	site.Published(t, b, s.Prod)
	if n := strings.Count(s.Server.Log.String(), "cannot be read"); n != 1 {
		t.Errorf("the log tells it %d times:\n%s", n, &s.Server.Log)
	}
}
