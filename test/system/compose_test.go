// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package system

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/site"
)

// The nginx of packaging/compose lets pushes through below /push, serves the
// repository, and nothing of the server's.
func TestComposeNginx(t *testing.T) {
	t.Parallel()
	s, b := site.New(t), site.Small(t, "os/small", "compose")
	must.OK(t, os.Chmod(filepath.Dir(s.Dir), 0o755))
	s.Nginx(composeSite(t, s.Prod))
	web := s.URL
	s.URL += "/push"
	s.Push(b)
	site.Published(t, b, s.Prod)

	pulled := filepath.Join(t.TempDir(), "pulled")
	must.OSTree(t, "init", "--repo="+pulled, "--mode=archive")
	must.OSTree(t, "remote", "add", "--repo="+pulled, "--no-gpg-verify", "web", web)
	must.OSTree(t, "pull", "--repo="+pulled, "--mirror", "web", b.Ref)
	for _, hidden := range []string{"/.ostree-upload/journal.db", "/.ostree-upload.lock", "/.lock"} {
		res, err := http.Get(web + hidden)
		must.OK(t, err)
		must.OK(t, res.Body.Close())
		if _, err := os.Stat(s.Prod + hidden); err != nil || res.StatusCode != http.StatusNotFound {
			t.Errorf("GET %s: %s, %v", hidden, res.Status, err)
		}
	}
}

// composeSite is what the file says of requests, for a server and a repository of the
// test.
func composeSite(t *testing.T, repo string) string {
	text, err := os.ReadFile("../../packaging/compose/nginx.conf")
	must.OK(t, err)
	_, body, found := strings.Cut(string(text), "server {\n")
	body, _, ended := strings.Cut(body, "\n}\n")
	if !found || !ended {
		t.Fatalf("there is no server in\n%s", text)
	}
	var kept []string
	for line := range strings.Lines(body) {
		if word := strings.TrimSpace(line); !strings.HasPrefix(word, "listen ") && !strings.HasPrefix(word, "ssl_") {
			kept = append(kept, line)
		}
	}
	return strings.NewReplacer("receive:8080", "SERVER", "/srv/repo", repo).Replace(strings.Join(kept, ""))
}

// The compose file is YAML, and what it mounts from beside it is there or made by who
// runs it.
func TestComposeFile(t *testing.T) {
	text, err := os.ReadFile("../../packaging/compose/compose.yaml")
	must.OK(t, err)
	var file struct {
		Services map[string]struct {
			Volumes []string
			Command []string
		}
		Volumes map[string]any
	}
	must.OK(t, yaml.Unmarshal(text, &file))
	if len(file.Services) != 2 {
		t.Errorf("the services are %v", file.Services)
	}
	for name, service := range file.Services {
		for _, volume := range service.Volumes {
			from, _, _ := strings.Cut(volume, ":")
			if _, named := file.Volumes[from]; named || from == "./tls" {
				continue
			}
			if _, err := os.Stat(filepath.Join("../../packaging/compose", from)); err != nil {
				t.Errorf("service %s mounts %s: %v", name, volume, err)
			}
		}
	}
}
