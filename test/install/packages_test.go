// SPDX-License-Identifier: AGPL-3.0-or-later

package install

import (
	"bytes"
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/test/must"
)

// packages is the folder that `make packages` has filled.
func packages(t *testing.T) string {
	folder := os.Getenv("PACKAGES")
	if folder == "" {
		t.Skip("takes minutes: make packages-test")
	}
	return folder
}

// one is the only file of a pattern.
func one(t *testing.T, pattern string) string {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	must.OK(t, err)
	if len(paths) != 1 {
		t.Fatalf("%s: found %q", pattern, paths)
	}
	return paths[0]
}

// The packages are installed in a fresh root that is booted: testdata/installed says
// what then holds.
func TestPackagesInstalled(t *testing.T) {
	folder := packages(t)
	need(t, "mmdebstrap", "systemd-nspawn", "dpkg-deb")
	root := filepath.Join(t.TempDir(), "root")
	makeRoot(t, root, "systemd,systemd-sysv,dbus,libostree-1-1,ostree,ca-certificates,procps,man-db")
	debs := filepath.Join(root, "packages")
	must.OK(t, os.Mkdir(debs, 0o755))
	for _, name := range []string{"ostree-upload", "ostree-upload-client"} {
		deb := one(t, filepath.Join(folder, name+"_*.deb"))
		must.Run(t, "cp", deb, filepath.Join(debs, name+".deb"))
	}
	olderPackage(t, filepath.Join(debs, "ostree-upload.deb"), filepath.Join(debs, "older.deb"))
	boot(t, root, "testdata/installed")
}

// olderPackage writes the package once more, as version 0~older and with another
// configuration file.
func olderPackage(t *testing.T, deb, older string) {
	folder := filepath.Join(t.TempDir(), "older")
	must.Run(t, "dpkg-deb", "-R", deb, folder)
	control := filepath.Join(folder, "DEBIAN/control")
	text, err := os.ReadFile(control)
	must.OK(t, err)
	text = regexp.MustCompile(`(?m)^Version: .*`).ReplaceAll(text, []byte("Version: 0~older"))
	must.OK(t, os.WriteFile(control, text, 0o644))
	must.Run(t, "sh", "-c", `echo "# older" >>"$0"`, filepath.Join(folder, "etc/ostree-upload/ostree-upload.yaml"))
	must.Run(t, "dpkg-deb", "-Znone", "-b", folder, older)
}

// makeRoot makes a root of this machine's Debian with the packages.
func makeRoot(t *testing.T, root, include string) {
	release := must.Run(t, "sh", "-c", ". /etc/os-release && echo $VERSION_CODENAME")
	must.Run(t, "mmdebstrap", "--quiet", "--dpkgopt=force-unsafe-io", "--variant=minbase", "--include="+include, release, root)
}

// boot starts the root's systemd on a network of its own, and runs a script there.
func boot(t *testing.T, root, script string) {
	must.Run(t, "cp", script, filepath.Join(root, "script"))
	unit := "[Unit]\nSuccessAction=exit\nFailureAction=exit\n" +
		"[Service]\nType=oneshot\nExecStart=/bin/bash -eux /script\nStandardOutput=file:/output\nStandardError=file:/output\n"
	must.OK(t, os.WriteFile(filepath.Join(root, "etc/systemd/system/script.service"), []byte(unit), 0o644))
	cmd := exec.CommandContext(t.Context(), "systemd-nspawn", "--quiet", "--directory="+root, "--private-network",
		"--register=no", "--keep-unit", "--boot", "systemd.unit=multi-user.target", "systemd.wants=script.service")
	var console bytes.Buffer
	cmd.Stdout, cmd.Stderr = &console, &console
	err := cmd.Run()
	output, readErr := os.ReadFile(filepath.Join(root, "output"))
	if err != nil || readErr != nil {
		t.Fatalf("the script failed: %v\n%s\n%v\n%s", err, output, readErr, lastLines(console.String(), 30))
	}
	t.Logf("%s", output)
}

func lastLines(text string, n int) string {
	lines := strings.Split(text, "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// need skips the test where a program or root's rights are missing.
func need(t *testing.T, programs ...string) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skip("needs " + p)
		}
	}
}

// The same commit gives the same bytes, in another folder and under another umask.
func TestPackagesReproducible(t *testing.T) {
	packages(t)
	need(t, "git", "make")
	source := filepath.Join(t.TempDir(), "source") // a commit that stays while others come
	must.Run(t, "git", "clone", "-q", "--bare", "../..", source)
	sums := map[string]string{}
	for _, umask := range []string{"022", "077"} {
		clone := filepath.Join(t.TempDir(), umask)
		must.Run(t, "sh", "-ec", `umask "$0"; git clone -q "$2" "$1"; cd "$1"; make packages VERSION=v1.2.3`, umask, clone, source)
		sums[umask] = must.Run(t, "sh", "-ec", `cd "$0/bin/packages"; sha256sum *.deb *.rpm`, clone)
	}
	if sums["022"] != sums["077"] || strings.Count(sums["022"], "\n") != 3 {
		t.Errorf("once:\n%s\nagain:\n%s", sums["022"], sums["077"])
	}
}

// A .rpm has what the .deb has, but for the places that differ.
func TestRPM(t *testing.T) {
	folder := packages(t)
	need(t, "rpm", "dpkg-deb")
	for _, name := range []string{"ostree-upload", "ostree-upload-client"} {
		inRPM := strings.Fields(must.Run(t, "rpm", "-qlp", one(t, filepath.Join(folder, name+"-[0-9]*.rpm"))))
		var inDeb []string
		for line := range strings.Lines(must.Run(t, "dpkg-deb", "-c", one(t, filepath.Join(folder, name+"_*.deb")))) {
			fields := strings.Fields(line)
			path := strings.TrimPrefix(fields[len(fields)-1], ".")
			if !strings.HasPrefix(line, "d") && !strings.HasSuffix(path, "/copyright") {
				path = strings.Replace(path, "/zsh/vendor-completions/", "/zsh/site-functions/", 1)
				path = strings.Replace(path, "/doc/"+name+"/LICENSE", "/licenses/"+name+"/LICENSE", 1)
				inDeb = append(inDeb, path)
			}
		}
		inRPM = slices.DeleteFunc(inRPM, func(path string) bool { return path == "/etc/ostree-upload" })
		slices.Sort(inRPM)
		slices.Sort(inDeb)
		if !slices.Equal(inRPM, inDeb) || len(inDeb) < 5 {
			t.Errorf("%s: the .rpm has\n%s\nand the .deb\n%s", name, strings.Join(inRPM, "\n"), strings.Join(inDeb, "\n"))
		}
	}
	for _, wanted := range []string{"ostree-libs >= 2022.7", "systemd"} {
		if requires := must.Run(t, "rpm", "-qp", "--requires", one(t, filepath.Join(folder, "ostree-upload-[0-9]*.rpm"))); !strings.Contains(requires, wanted) {
			t.Errorf("the .rpm does not require %s:\n%s", wanted, requires)
		}
	}
}

// The client's program is static.
func TestClientStatic(t *testing.T) {
	folder := packages(t)
	client, err := elf.Open(filepath.Join(folder, "ostree-upload-client"))
	must.OK(t, err)
	defer client.Close()
	if libraries, err := client.ImportedLibraries(); err != nil || len(libraries) > 0 {
		t.Errorf("the client needs %q, %v", libraries, err)
	}
}
