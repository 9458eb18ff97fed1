// SPDX-License-Identifier: AGPL-3.0-or-later

package push

import (
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/test/must"

	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/fake"
)

// An alias of the build repository does not become a ref of its own on the server:
// named, it is refused with what it points to; in a push of all refs it is left
// out, which the end tells.
func TestPushAlias(t *testing.T) {
	repo, heads := buildRepo(t, "archive", 1)
	must.OSTree(t, "refs", "--repo="+repo, "--alias", testRef, "--create=stable")
	f := fake.Start(t)
	opt := options(f, repo)
	opt.Refs = []string{testRef, "stable"}
	if _, e := mustEnd(t, opt, ExitRefused, wire.Policy); !strings.Contains(e.Error(), "stable is an alias of "+testRef) {
		t.Errorf("error %q", e)
	}
	opt.Refs = nil
	result, e := mustEnd(t, opt, ExitRefused, RefsLeft)
	if len(result.Refs) != 1 || result.Refs[0].Ref != testRef || result.Refs[0].New != heads[0] || result.Session.State != wire.Published {
		t.Errorf("pushed %v", result.Refs)
	}
	if len(result.Left) != 1 || result.Left[0].Ref != "stable" || !strings.Contains(e.Error(), "ref stable is an alias of "+testRef) {
		t.Errorf("left %v: %v", result.Left, e)
	}
}
