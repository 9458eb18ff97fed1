// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package system

import (
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/process"
	"github.com/lirios/ostree-upload/test/site"
)

// What TestManyClients does, and what the server may take for it.
const (
	crowdClients = 30
	crowdFiles   = 100
	crowdMemory  = 400 << 20
)

// gauge reads a number of the server's own metrics.
func gauge(t *testing.T, url, token, name string) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "GET", url+"/metrics", nil)
	must.OK(t, err)
	r.Header.Set("Authorization", "Bearer "+token)
	r.Close = true
	res, err := http.DefaultClient.Do(r)
	must.OK(t, err)
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	must.OK(t, err)
	m := regexp.MustCompile(`(?m)^` + name + ` (\S+)$`).FindSubmatch(b)
	if m == nil {
		t.Fatalf("no %s in the metrics: %.200s", name, b)
	}
	f, err := strconv.ParseFloat(string(m[1]), 64)
	must.OK(t, err)
	return int(f)
}

// Thirty clients push thirty refs at once: all are published, the server needs little
// memory for it, and afterwards nothing of them is left in it.
func TestManyClients(t *testing.T) {
	t.Parallel()
	s := site.New(t)
	watcher := strings.TrimSpace(s.Run("gentoken", "--name", "watcher", "--scope", "metrics").Must(t, 0).Stdout)
	repo := filepath.Join(t.TempDir(), "build")
	var refs, commits []string
	for i := range crowdClients + 1 {
		tree, ref := t.TempDir(), fmt.Sprint("os/crowd/", i)
		must.OK(t, site.SmallTree(tree, crowdFiles, ref))
		refs, commits = append(refs, ref), append(commits, site.Commit(t, repo, "archive", ref, tree, site.Canonical...))
	}
	push := func(ref string) func() site.Ending {
		return site.Background(t, s.Command("push", "--repo", repo, "--branch", ref))
	}
	push(refs[crowdClients])().Must(t, 0) // what stays after the first one is no leak
	names := []string{"go_goroutines", "process_open_fds"}
	before := make(map[string]int)
	for _, name := range names {
		before[name] = gauge(t, s.URL, watcher, name)
	}

	var ends []func() site.Ending
	for _, ref := range refs[:crowdClients] {
		ends = append(ends, push(ref))
	}
	for _, end := range ends {
		end().Must(t, 0)
	}
	for i, ref := range refs {
		s.AtHead(ref, commits[i])
	}
	most, err := process.PeakMemory(s.Server.Process.Pid)
	must.OK(t, err)
	t.Logf("the server had %d MiB in memory at most", most>>20)
	if most > crowdMemory {
		t.Errorf("the server had %d MiB in memory, more than %d", most>>20, crowdMemory>>20)
	}
	for _, name := range names {
		must.Wait(t, fmt.Sprintf("%s is %d again", name, before[name]), func() bool {
			return gauge(t, s.URL, watcher, name) <= before[name]
		})
	}
}
