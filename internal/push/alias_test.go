// SPDX-License-Identifier: AGPL-3.0-or-later

package push

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/test/must"

	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/fake"
)

// An alias of the build repository does not become a ref of its own on the server:
// named, it is refused with what it points to; in a push of all refs it is left
// out, which the log tells.
func TestPushAlias(t *testing.T) {
	repo, heads := buildRepo(t, "archive", 1)
	must.OSTree(t, "refs", "--repo="+repo, "--alias", testRef, "--create=stable")
	f := fake.Start(t)
	opt := options(f, repo)
	opt.Refs = []string{testRef, "stable"}
	if _, e := mustEnd(t, opt, ExitRefused, wire.Policy); !strings.Contains(e.Error(), "stable is an alias of "+testRef) {
		t.Errorf("error %q", e)
	}
	var log bytes.Buffer
	opt.Refs, opt.Log = nil, slog.New(slog.NewTextHandler(&log, nil))
	result, _ := mustEnd(t, opt, 0, "")
	if len(result.Refs) != 1 || result.Refs[0].Ref != testRef || result.Refs[0].New != heads[0] {
		t.Errorf("pushed %v", result.Refs)
	}
	if !strings.Contains(log.String(), "ref=stable target="+testRef) {
		t.Errorf("log %q", &log)
	}
}
