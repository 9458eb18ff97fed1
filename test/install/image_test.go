// SPDX-License-Identifier: AGPL-3.0-or-later

package install

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/lirios/ostree-upload/test/must"
)

// The Dockerfile's steps make images that do what testdata/images says. No daemon is
// needed, and no registry: the base images are made from the packages of Debian.
func TestImages(t *testing.T) {
	if os.Getenv("IMAGES") == "" {
		t.Skip("takes minutes: make image-test")
	}
	need(t, "buildah", "mmdebstrap", "unshare", "ip", "ostree")
	b := buildah{t, t.TempDir()}
	t.Cleanup(func() { b.run("rm", "--all"); b.run("rmi", "--all", "--force") })

	root := filepath.Join(t.TempDir(), "root")
	makeRoot(t, root, "ca-certificates")
	likeHere(t, root)
	b.base("docker.io/library/debian:bookworm-slim", root)
	must.Run(t, "chroot", root, "sh", "-ec", "apt-get update -q; apt-get install -q -y --no-install-recommends gcc libc6-dev make git")
	must.Run(t, "sh", "-ec", `cp -a "$(go env GOROOT)" "$0/usr/local/go"`, root)
	b.base("docker.io/library/golang:1.26-bookworm", root, "--env", "PATH=/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")

	caches := []string{"--volume", must.Run(t, "go", "env", "GOMODCACHE") + ":/root/go/pkg/mod", "--volume", must.Run(t, "go", "env", "GOCACHE") + ":/root/.cache/go-build"}
	for image, target := range map[string][]string{"server": nil, "client": {"--target", "client"}} {
		args := append([]string{"bud", "--isolation", "chroot", "--pull-never", "--format", "docker", "--tag", image}, append(caches, target...)...)
		b.run(append(args, "../..")...)
	}
	script, err := filepath.Abs("testdata/images")
	must.OK(t, err)
	cmd := exec.Command("unshare", "--net", "--pid", "--fork", "--mount-proc", "bash", "-eux", script)
	cmd.Dir, cmd.Env = t.TempDir(), append(os.Environ(), "STORAGE="+b.storage)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}

// buildah keeps its images in a folder of the test.
type buildah struct {
	t       *testing.T
	storage string
}

func (b buildah) run(args ...string) string {
	b.t.Helper()
	where := []string{"--root", b.storage + "/root", "--runroot", b.storage + "/run"}
	return must.Run(b.t, "buildah", append(where, args...)...)
}

// base makes an image of a folder.
func (b buildah) base(name, root string, settings ...string) {
	b.t.Helper()
	container := b.run("from", "scratch")
	b.run("add", "--quiet", container, root, "/")
	b.run(append(append([]string{"config"}, settings...), container)...)
	b.run("commit", "--quiet", "--rm", container, name)
}

// likeHere lets a root install from where this machine does.
func likeHere(t *testing.T, root string) {
	must.Run(t, "sh", "-ec", `rm -rf "$0/etc/apt"; cp -a /etc/apt "$0/etc/apt"`, root)
}
