// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package system

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/server"
)

// BenchmarkRefsList runs `ostree-upload refs list` against a server with one ref, and with
// 20,000. It is to take less than 300 ms.
func BenchmarkRefsList(b *testing.B) {
	s := server.Start(b, "archive")
	for _, c := range []struct {
		name  string
		count int
	}{{"one", 1}, {"20000", 20_000}} {
		s.ManyRefs(b, c.count)
		for _, args := range [][]string{nil, {"--limit", "100"}, {"--json"}} {
			b.Run(strings.Join(append([]string{c.name}, args...), " "), func(b *testing.B) {
				for b.Loop() {
					cmd := exec.Command("ostree-upload", append([]string{"refs", "list", "--address", s.URL}, args...)...)
					cmd.Env = append(os.Environ(), "OSTREE_UPLOAD_TOKEN="+s.Admin)
					out, err := cmd.Output()
					must.OK(b, err)
					if lines := strings.Count(string(out), "\n"); len(args) == 0 && lines < c.count {
						b.Fatalf("%d lines for %d refs:\n%.500s", lines, c.count, out)
					}
				}
			})
		}
	}
}
