// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package system

import (
	"regexp"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/site"
)

// A build is pushed and held; a tester installs it from its preview, and nobody else sees
// it; another person publishes it, and rejects the next one.
func TestHeldFlatpak(t *testing.T) {
	t.Parallel()
	h := newFlatpakHost(t)
	s := site.At(t, t.TempDir())
	s.MakeToken()
	release := strings.TrimSpace(s.Run("gentoken", "--config", s.Config(), "--name", "release", "--scope", "publish").Must(t, 0).Stdout)
	t.Cleanup(s.End)
	s.Start("--init")
	h.export("one")
	said := s.Run("push", "--repo", h.repo, "--hold").Must(t, 0).Stdout
	at := regexp.MustCompile(`(?m)^preview (http://\S+/preview/([a-z2-7]{16})/[a-z2-7]{32}/)$`).FindStringSubmatch(said)
	if at == nil {
		t.Fatalf("it says %s", said)
	}
	url, id := at[1], at[2]
	s.NoRefs()
	if shown := s.Run("sessions", "show", id).Must(t, 0).Stdout; !strings.Contains(strings.ReplaceAll(shown, "\n         ", ""), url) {
		t.Errorf("the session does not show its preview:\n%s", shown)
	}
	h.run("--user", "remote-add", "--no-gpg-verify", "preview", url)
	h.run("--user", "install", "-y", "--noninteractive", "preview", application)
	if got := h.installed(); got != "one" {
		t.Errorf("the tester has version %s", got)
	}
	if log := s.Server.Log.String(); strings.Contains(log, strings.Split(url, "/")[5]) {
		t.Errorf("the log has the key of the preview:\n%s", log)
	}
	s.Run("sessions", "publish", id, "--token", release).Must(t, 0)
	ref := "app/" + application + "/" + h.run("--default-arch") + "/stable"
	published := must.OSTree(t, "rev-parse", "--repo="+s.Prod, ref)
	if built := must.OSTree(t, "rev-parse", "--repo="+h.repo, ref); built != published {
		t.Errorf("published is %s, built was %s", published, built)
	}

	h.export("two")
	held := s.Run("push", "--repo", h.repo, "--hold").Must(t, 0).Stdout
	next := regexp.MustCompile(`session ([a-z2-7]{16})`).FindStringSubmatch(held)[1]
	s.Run("sessions", "reject", next, "--reason", "it says two", "--token", release).Must(t, 0)
	if is := must.OSTree(t, "rev-parse", "--repo="+s.Prod, ref); is != published {
		t.Errorf("after the rejection it is %s", is)
	}
}
