// SPDX-License-Identifier: AGPL-3.0-or-later

package system

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/site"
)

// A server that root started runs programs as the owner of the repository, and with a
// home that is not root's.
func TestWorkRunsAsOwner(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it becomes another user")
	}
	s := ownedSite(t)
	s.Configure(`after: [{command: [sh, -c, 'echo "$(id -u) $HOME" > prod/told']}]`)
	b := site.Small(t, "os/a", "seed")
	s.Push(b, "--wait-after")
	told, err := os.ReadFile(filepath.Join(s.Prod, "told"))
	must.OK(t, err)
	uid, home, _ := strings.Cut(strings.TrimSpace(string(told)), " ")
	if uid != fmt.Sprint(foreignOwner) || home == os.Getenv("HOME") {
		t.Errorf("it ran as user %s with the home %s", uid, home)
	}
}
