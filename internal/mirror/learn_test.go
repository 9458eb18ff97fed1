// SPDX-License-Identifier: AGPL-3.0-or-later

package mirror_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/objects"
	"github.com/lirios/ostree-upload/test/store"
)

// What another server publishes becomes known when its ref is seen: commit, trees, files.
func TestLearn(t *testing.T) {
	p := newPlace(t)
	m := p.open(t.TempDir())
	file := objects.SoundFile("of another server").Object()
	commit, others := objects.CommitOf(file, "another")
	others = append(others, file)
	for _, o := range others {
		p.put(o)
	}
	p.setRef("x", ostree.Checksum(commit).String())
	p.wantRefs(m, "x")
	must.Wait(t, "the file is known", func() bool { return has(t, m, nameOf(t, file)) })
	if !has(t, m, ostree.Name{Checksum: commit, Type: ostree.CommitObject}) {
		t.Error("the commit is not known")
	}
}

// A server that ends does not wait for a store that does not answer.
func TestCloseWhileLearning(t *testing.T) {
	p := newPlace(t)
	m := p.open(t.TempDir())
	p.setRef("x", sum("1"))
	asked := make(chan struct{})
	told := sync.OnceFunc(func() { close(asked) })
	p.proxy.Play(func(r store.Request) *store.Fault {
		if !strings.HasSuffix(r.Key, ".commit") {
			return nil
		}
		told()
		return store.HangsAfter
	})
	p.wantRefs(m, "x")
	<-asked
	must.OK(t, m.Close())
}
