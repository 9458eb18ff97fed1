// SPDX-License-Identifier: AGPL-3.0-or-later

package install

import (
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"github.com/lirios/ostree-upload/test/must"
)

// A file of a package, as nfpm's lists have it.
type packaged struct {
	Src, Dst, Type, Packager string
}

// What the packages' lists name is in the tree, or made by hack/packages.sh, and no
// file is of both packages.
func TestPackageLists(t *testing.T) {
	of := map[string]string{} // list by file
	for _, list := range []string{"server", "client"} {
		text, err := os.ReadFile("../../packaging/nfpm/" + list + ".yaml")
		must.OK(t, err)
		var file struct{ Contents []packaged }
		must.OK(t, yaml.Unmarshal(text, &file))
		if len(file.Contents) < 5 {
			t.Errorf("%s: the list has %d files", list, len(file.Contents))
		}
		for _, f := range file.Contents {
			if f.Type == "dir" {
				continue
			}
			if there, err := filepath.Glob("../../" + f.Src); err != nil || len(there) == 0 && !strings.HasPrefix(f.Src, "bin/packages/") {
				t.Errorf("%s: there is no %s (%v)", list, f.Src, err)
			}
			to := f.Dst
			if strings.HasSuffix(to, "/") {
				to += path.Base(f.Src)
			}
			if other := of[to]; other != "" && other != list {
				t.Errorf("%s is in the packages of %s and %s", to, other, list)
			}
			of[to] = list
		}
	}
}
