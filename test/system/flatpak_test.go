// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package system

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/test/gpg"
	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/site"
)

// A flatpakHost is a machine with an application to be built, or with Flatpak's clients.
type flatpakHost struct {
	t    *testing.T
	dir  string
	repo string // where the application is built
}

func newFlatpakHost(t *testing.T) *flatpakHost {
	t.Helper()
	if _, err := exec.LookPath("flatpak"); err != nil {
		t.Skip("flatpak is not installed")
	}
	h := &flatpakHost{t: t, dir: t.TempDir()}
	h.repo = h.path("build")
	return h
}

func (h *flatpakHost) path(name string) string { return filepath.Join(h.dir, name) }

// run runs flatpak with all its folders below that of the host.
func (h *flatpakHost) run(args ...string) string {
	h.t.Helper()
	cmd := exec.Command("flatpak", args...)
	cmd.Env = append(os.Environ(), "HOME="+h.path("home"), "XDG_DATA_HOME="+h.path("data"), "XDG_CACHE_HOME="+h.path("cache"),
		"XDG_RUNTIME_DIR="+h.path("run"), "FLATPAK_USER_DIR="+h.path("user"), "FLATPAK_SYSTEM_DIR="+h.path("system"), "FLATPAK_SYSTEM_CACHE_DIR="+h.path("systemcache"))
	must.OK(h.t, os.MkdirAll(h.path("run"), 0o700))
	out, err := cmd.CombinedOutput()
	if err != nil {
		h.t.Fatalf("flatpak %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

const application = "org.example.App"

// export makes a version of the application, with a runtime that it needs.
func (h *flatpakHost) export(version string) {
	h.t.Helper()
	arch := h.run("--default-arch")
	for path, text := range map[string]string{
		"runtime/metadata":     fmt.Sprintf("[Runtime]\nname=org.example.Platform\nruntime=org.example.Platform/%s/1\n", arch),
		"runtime/usr/hello":    "hello\n",
		"runtime/files/.keep":  "",
		"app/metadata":         fmt.Sprintf("[Application]\nname=%s\nruntime=org.example.Platform/%s/1\ncommand=hello\n", application, arch),
		"app/files/bin/hello":  "#!/bin/sh\necho " + version + "\n",
		"app/export/.keep":     "",
		"app/files/share/text": strings.Repeat("all versions have this text\n", 2000),
	} {
		must.OK(h.t, site.WriteFile(h.path(path), []byte(text), 0o755))
	}
	h.run("build-export", "--disable-sandbox", "--runtime", "--files=usr", h.repo, h.path("runtime"), "1")
	h.run("build-export", "--disable-sandbox", h.repo, h.path("app"), "stable")
}

// installed is the version of the application that a client has.
func (h *flatpakHost) installed() string {
	h.t.Helper()
	b, err := os.ReadFile(filepath.Join(h.path("user"), "app", application, "current/active/files/bin/hello"))
	must.OK(h.t, err)
	return strings.TrimPrefix(strings.TrimSpace(string(b)), "#!/bin/sh\necho ")
}

// With nothing but this server, which signs, Flatpak's clients that trust its key install
// an application and update it after the next push. Deltas of the server's own stay where
// Flatpak makes its own.
func TestFlatpak(t *testing.T) {
	t.Parallel()
	h, keys := newFlatpakHost(t), gpg.New(t)
	s := site.At(t, t.TempDir())
	s.MakeToken()
	s.Configure("sign: {gpg: {homedir: " + keys.Home() + ", keys: [" + keys.Fingerprint(0) + "]}, commits: true}")
	s.Configure(`after:
  - deltas: {refs: ["os/**"], from: [empty]}
  - flatpak: {args: ["--title=Our apps", --generate-static-deltas, --static-delta-jobs=1]}`)
	t.Cleanup(s.End)
	s.Start("--init")
	os := &site.Build{Repo: filepath.Join(s.Dir, "os"), Ref: "os/stable"}
	deltaOfOS := site.Chain(t, os.Repo, os.Ref, 1)[0]
	s.Push(os, "--wait-after")

	web := httptest.NewServer(http.FileServer(http.Dir(s.Prod)))
	t.Cleanup(web.Close)
	key := h.path("key.gpg")
	keys.Export(key, false, 0)
	for _, version := range []string{"one", "two"} {
		h.export(version)
		s.Run("push", "--repo", h.repo, "--wait-after").Must(t, 0)
		if version == "one" {
			h.run("--user", "remote-add", "--gpg-import="+key, "apps", web.URL)
			h.run("--user", "install", "-y", "--noninteractive", "apps", application)
		} else {
			h.run("--user", "update", "-y", "--noninteractive")
		}
		if got := h.installed(); got != version {
			t.Errorf("the client has version %s, want %s", got, version)
		}
	}
	if title := h.run("--user", "remotes", "--columns=title"); !strings.Contains(title, "Our apps") {
		t.Errorf("the remote's title is %s", title)
	}
	deltas := must.OSTree(t, "static-delta", "list", "--repo="+s.Prod)
	app := must.OSTree(t, "rev-parse", "--repo="+s.Prod, "app/"+application+"/"+h.run("--default-arch")+"/stable")
	if !strings.Contains(deltas, deltaOfOS) || !strings.Contains(deltas, "-"+app) {
		t.Errorf("deltas:\n%s\nwant %s, and one from another commit to %s", deltas, deltaOfOS, app)
	}
	if log := s.Server.Log.String(); strings.Contains(log, "left as it is") {
		t.Errorf("the log warns of the summary:\n%s", log)
	}
}

// A push that comes while flatpak works does not wait for it, and is in the summary that
// follows: flatpak runs once more.
func TestPushWhileFlatpakWorks(t *testing.T) {
	t.Parallel()
	h := newFlatpakHost(t)
	s := site.At(t, t.TempDir())
	s.MakeToken()
	s.Configure("after: [flatpak: {}]")
	t.Cleanup(s.End)
	real := must.Run(t, "sh", "-c", "command -v flatpak")
	slow := fmt.Sprintf("#!/bin/sh\n%s \"$@\" || exit\ntouch %s\nwhile [ ! -e %s ]; do sleep 0.05; done\n", real, h.path("ran"), h.path("go"))
	must.OK(t, site.WriteFile(h.path("bin/flatpak"), []byte(slow), 0o755))
	r, err := site.StartReceiver(s.Dir, append(os.Environ(), "PATH="+h.path("bin")+":"+os.Getenv("PATH")), "--repo", "prod", "--init")
	must.OK(t, err)
	s.Server, s.URL = r, "http://"+r.Address
	h.export("one")
	s.Run("push", "--repo", h.repo).Must(t, 0)
	must.Wait(t, "flatpak has written the summary", func() bool { _, err := os.Stat(h.path("ran")); return err == nil })
	h.export("two")
	s.Run("push", "--repo", h.repo).Must(t, 0)
	must.OK(t, os.WriteFile(h.path("go"), nil, 0o644))
	head := must.OSTree(t, "rev-parse", "--repo="+h.repo, "app/"+application+"/"+h.run("--default-arch")+"/stable")
	must.Wait(t, "the summary names the second push", func() bool {
		return strings.Contains(must.OSTree(t, "summary", "--view", "--repo="+s.Prod), head)
	})
}

// A server whose machine lacks flatpak says so at its start, and still publishes; the
// session tells what is due and why.
func TestFlatpakIsNotThere(t *testing.T) {
	t.Parallel()
	s := site.At(t, t.TempDir())
	s.MakeToken()
	s.Configure("after: [flatpak: {}]")
	t.Cleanup(s.End)
	path := filepath.Dir(must.Run(t, "sh", "-c", "command -v ostree-upload"))
	r, err := site.StartReceiver(s.Dir, append(os.Environ(), "PATH="+path), "--repo", "prod", "--init")
	must.OK(t, err)
	s.Server, s.URL = r, "http://"+r.Address
	const why = "flatpak is not there: no folder of $PATH has it"
	must.Wait(t, "the log says why", func() bool { return strings.Contains(r.Log.String(), why) })
	s.Push(site.Small(t, "app/small", "small"))
	must.Wait(t, "the session says why", func() bool {
		after := s.Sessions("published")[0].After
		return len(after) == 1 && after[0].State == "failed" && strings.Contains(after[0].Error, why)
	})
}
