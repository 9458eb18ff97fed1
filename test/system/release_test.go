// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package system

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/site"
)

// A build is pushed and held; a tester installs it from its preview, and nobody else sees
// it; another person publishes it, and rejects the next one. The one after that is
// published, and taken back.
func TestLifeOfABuild(t *testing.T) {
	t.Parallel()
	h := newFlatpakHost(t)
	s := site.At(t, t.TempDir())
	s.MakeToken()
	release := strings.TrimSpace(s.Run("gentoken", "--config", s.Config(), "--name", "release", "--scope", "publish", "--scope", "promote").Must(t, 0).Stdout)
	t.Cleanup(s.End)
	s.Start("--init")
	h.export("one")
	ref := "app/" + application + "/" + h.run("--default-arch") + "/stable"
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
	published := must.OSTree(t, "rev-parse", "--repo="+s.Prod, ref)
	if built := must.OSTree(t, "rev-parse", "--repo="+h.repo, ref); built != published {
		t.Errorf("published is %s, built was %s", published, built)
	}

	h.export("two")
	hold := func() string {
		held := s.Run("push", "--repo", h.repo, "--hold").Must(t, 0).Stdout
		return regexp.MustCompile(`session ([a-z2-7]{16})`).FindStringSubmatch(held)[1]
	}
	s.Run("sessions", "reject", hold(), "--reason", "it says two", "--token", release).Must(t, 0)
	if is := must.OSTree(t, "rev-parse", "--repo="+s.Prod, ref); is != published {
		t.Errorf("after the rejection it is %s", is)
	}

	h.export("three")
	s.Run("sessions", "publish", hold(), "--token", release).Must(t, 0)
	h.run("--user", "remote-modify", "--url", "file://"+s.Prod, "preview")
	h.run("--user", "update", "-y", "--noninteractive")
	if got := h.installed(); got != "three" {
		t.Errorf("readers get version %s", got)
	}
	s.Run("refs", "rollback", ref, "--token", release).Must(t, 0)
	h.run("--user", "update", "-y", "--noninteractive", "--commit="+published, application)
	if got := h.installed(); got != "one" {
		t.Errorf("who had the build before the rollback goes back to version %s", got)
	}
	h.run("--user", "uninstall", "-y", "--noninteractive", application)
	h.run("--user", "install", "-y", "--noninteractive", "preview", application)
	if got := h.installed(); got != "one" {
		t.Errorf("after the rollback new readers get version %s", got)
	}
	var log []string
	for _, m := range regexp.MustCompile(`(?m)^\S+ \S+Z (.*), session`).FindAllStringSubmatch(s.Run("refs", "log", ref, "--token", release).Must(t, 0).Stdout, -1) {
		log = append(log, m[1])
	}
	pushed := "pushed by ci, published by release"
	if want := []string{"rolled back by release", pushed, pushed}; !slices.Equal(log, want) {
		t.Errorf("the log has %q, want %q", log, want)
	}
}
