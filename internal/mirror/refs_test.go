// SPDX-License-Identifier: AGPL-3.0-or-later

package mirror_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/lirios/ostree-upload/internal/bucket"
	"github.com/lirios/ostree-upload/internal/mirror"
	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/store"
)

// sum is a checksum of which there is no commit.
func sum(digit string) string { return strings.Repeat(digit, 64) }

// setRef writes a ref as another server does, or removes it if text is "".
func (p *place) setRef(name, text string) {
	p.t.Helper()
	if text == "" {
		must.OK(p.t, p.bucket.Delete(p.t.Context(), mirror.RefKey(name), ""))
		return
	}
	_, err := p.bucket.Put(p.t.Context(), mirror.RefKey(name), []byte(text))
	must.OK(p.t, err)
}

// wantRefs checks which refs a mirror has.
func (p *place) wantRefs(m *mirror.Mirror, names ...string) {
	p.t.Helper()
	repo, err := m.Strict()
	must.OK(p.t, err)
	got, err := repo.RefNames()
	if err != nil || !slices.Equal(got, names) {
		p.t.Errorf("the refs are %q, %v, and not %q", got, err, names)
	}
}

// commitOf is what a mirror says of a ref, "" if there is none.
func commitOf(t *testing.T, m *mirror.Mirror, name string) string {
	t.Helper()
	repo, err := m.Strict()
	must.OK(t, err)
	c, err := repo.Ref(name)
	if errors.Is(err, os.ErrNotExist) {
		return ""
	}
	must.OK(t, err)
	return c.String()
}

// Refs that others move, make or remove are seen, all or one by one, also if that
// happened while the server did not run.
func TestRefs(t *testing.T) {
	p := newPlace(t)
	state := t.TempDir()
	m := p.open(state)
	for i := range 10 { // more than a page
		p.setRef(fmt.Sprintf("os/x-%d.y_z", i), sum("1")+"\n")
	}
	names, err := func() ([]string, error) {
		repo, err := m.Strict()
		must.OK(t, err)
		return repo.RefNames()
	}()
	if err != nil || len(names) != 10 {
		t.Fatalf("%q, %v", names, err)
	}
	p.proxy.Play(nil)
	p.wantRefs(m, names...)
	for _, r := range p.proxy.Requests() {
		if r.Kind == "GetObject" && strings.Contains(r.Key, "/refs/") {
			t.Errorf("a ref that did not change was read: %v", r)
		}
	}
	p.setRef(names[0], sum("2")+"\n")
	if got := commitOf(t, m, names[0]); got != sum("2") {
		t.Errorf("it is at %s", got)
	}
	p.setRef(names[1], "")
	if got := commitOf(t, m, names[1]); got != "" {
		t.Errorf("one that is gone is at %s", got)
	}
	must.OK(t, m.Close())
	p.setRef(names[2], "")
	p.setRef(names[3], sum("3"))
	m = p.open(state)
	p.wantRefs(m, slices.Concat(names[:1], names[3:])...)
	if got := commitOf(t, m, names[3]); got != sum("3") {
		t.Errorf("it is at %s", got)
	}
}

// What lies beside the refs and is none is not taken for one.
func TestNotRefs(t *testing.T) {
	p := newPlace(t)
	m := p.open(t.TempDir())
	for _, key := range []string{
		"refs/heads/.hidden", "refs/heads/x y", "refs/heads/ü", "refs/heads/os//x", "refs/heads/-x", "refs/heads/x~",
		"refs/heads/" + sum("a"), "refs/remotes/origin/x", "refs/mirrors/org.example/x", "refs/x", "refs/headsx",
	} {
		_, err := p.bucket.Put(t.Context(), key, []byte("no checksum"))
		must.OK(t, err)
	}
	p.setRef("is/one", sum("1"))
	p.wantRefs(m, "is/one")
	for _, name := range []string{"../config", "", "x/../is/one", "x y", strings.Repeat("x", 5000)} {
		if got := commitOf(t, m, name); got != "" {
			t.Errorf("%.20q is at %s", name, got)
		}
	}
}

// A damaged ref is named, and told again once it is mended.
func TestDamagedRef(t *testing.T) {
	p := newPlace(t)
	m := p.open(t.TempDir())
	p.setRef("good", sum("1"))
	for name, text := range map[string]string{
		"blank": "\n", "large": strings.Repeat("1", 10<<20), "no-hex": strings.Repeat("x", 64), "upper": strings.ToUpper(sum("a")),
		"short": sum("a")[1:], "two": sum("a") + "\n" + sum("a"), "alias": "ref: good", "binary": "\x00\xff",
	} {
		t.Run(name, func(t *testing.T) {
			p.setRef(name, text)
			repo, err := m.Strict()
			must.OK(t, err)
			_, one := repo.Ref(name)
			_, all := repo.Refs()
			for _, err := range []error{one, all} {
				if err == nil || !strings.Contains(err.Error(), "ref "+name+"") {
					t.Errorf("it says %v", err)
				}
			}
			if got := commitOf(t, m, "good"); got != sum("1") {
				t.Errorf("another one is at %q", got)
			}
			p.wantRefs(m, slices.Sorted(slices.Values([]string{"good", name}))...)
			p.setRef(name, "")
			p.wantRefs(m, "good")
		})
	}
}

// A store may keep the ETag of a ref that its disk damages, so that a mended one has that of
// the damaged one.
func TestDamagedRefKeepsETag(t *testing.T) {
	g := store.New(t)
	g.Bucket(t, store.FakeBucket)
	p := &place{t: t}
	p.atStore(g.URL, "os")
	p.setRef("x", sum("1"))
	file := filepath.Join(g.Folder, store.FakeBucket, "os", mirror.RefKey("x"))
	must.OK(t, os.WriteFile(file, []byte("spoilt"), 0o644))
	m := p.open(t.TempDir())
	repo, err := m.Strict()
	must.OK(t, err)
	p.wantRefs(m, "x")
	if _, err := repo.Ref("x"); err == nil || !strings.Contains(err.Error(), "spoilt") {
		t.Errorf("it says %v", err)
	}
	p.setRef("x", sum("1"))
	p.wantRefs(m, "x")
	if got := commitOf(t, m, "x"); got != sum("1") {
		t.Errorf("it is at %s", got)
	}
}

// A ref may get the name of the folder of another that is gone. If both are there, one is
// told, and the other as soon as that one is gone.
func TestRefsExcludeEachOther(t *testing.T) {
	for _, names := range [][2]string{{"os", "os/x"}, {"os/x", "os"}, {"os/x/y/z", "os/x"}} {
		t.Run(names[0]+" and "+names[1], func(t *testing.T) {
			p := newPlace(t)
			m := p.open(t.TempDir())
			p.setRef(names[0], sum("1"))
			p.wantRefs(m, names[0])
			p.setRef(names[0], "")
			p.setRef(names[1], sum("2"))
			if got := commitOf(t, m, names[1]); got != sum("2") {
				t.Errorf("the second one is at %q", got)
			}
			p.wantRefs(m, names[1])
			p.setRef(names[0], sum("1"))
			p.wantRefs(m, names[1])
			p.setRef(names[1], "")
			p.wantRefs(m, names[0])
		})
	}
}

// An empty folder, as a kill leaves it, is not in the way of a ref of its name.
func TestRefOverEmptyFolder(t *testing.T) {
	p := newPlace(t)
	m := p.open(t.TempDir())
	must.OK(t, os.MkdirAll(filepath.Join(m.Path(), "refs/heads/os/x/y"), 0o700))
	p.setRef("os", sum("1"))
	p.wantRefs(m, "os")
}

// Of rivals that move a ref one wins, and every server sees that.
func TestRivals(t *testing.T) {
	p := newPlace(t)
	m, other := p.open(t.TempDir()), p.open(t.TempDir())
	for _, was := range []string{"", sum("0")} {
		p.setRef("x", was)
		_, at, err := m.Ref(t.Context(), "x")
		must.OK(t, err)
		var all sync.WaitGroup
		var won atomic.Value
		for i := range 8 {
			all.Go(func() {
				commit := sum(fmt.Sprint(i + 1))
				_, err := m.Bucket.Swap(t.Context(), mirror.RefKey("x"), []byte(commit+"\n"), at.ETag)
				if err == nil {
					if before := won.Swap(commit); before != nil {
						t.Errorf("%s won, too", before)
					}
				} else if !errors.Is(err, bucket.ErrChanged) {
					t.Error(err)
				}
			})
		}
		all.Wait()
		for _, who := range []*mirror.Mirror{m, other} {
			if got := commitOf(t, who, "x"); got != won.Load() {
				t.Errorf("it is at %s, and %v won", got, won.Load())
			}
		}
	}
}

// While the store is down readers are told what was so before, and do not ask it each
// time. Whoever has to know is told of the error.
func TestRefsWhileDown(t *testing.T) {
	p := newPlace(t)
	m := p.open(t.TempDir())
	p.setRef("x", sum("1"))
	p.wantRefs(m, "x")
	p.setRef("x", sum("2"))
	p.proxy.Down()
	lenient, err := m.Lenient()
	must.OK(t, err)
	c, err := lenient.Ref("x")
	if err != nil || c.String() != sum("1") {
		t.Errorf("it is at %s, %v", c, err)
	}
	strict, err := m.Strict()
	must.OK(t, err)
	if _, err := strict.Ref("x"); !bucket.Temporary(err) {
		t.Errorf("who has to know is told %v", err)
	}
	p.proxy.Play(nil)
	if _, err := strict.Ref("x"); err != nil {
		t.Error(err)
	}
	c, err = lenient.Ref("x")
	if err != nil || c.String() != sum("2") {
		t.Errorf("afterwards it is at %s, %v", c, err)
	}
}
