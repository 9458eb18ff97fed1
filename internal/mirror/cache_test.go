// SPDX-License-Identifier: AGPL-3.0-or-later

package mirror_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/objects"
)

// The cache keeps its bound, also with what an earlier process left, and what went is read
// from the bucket again.
func TestCacheBound(t *testing.T) {
	const most = 10_000
	p := newPlace(t)
	list := trees(24)
	for _, o := range list {
		p.put(o)
	}
	state := t.TempDir()
	m := p.open(state)
	m.SetMostCached(most)
	for range 2 {
		requests := 0
		for _, o := range list {
			requests += p.read(m, o)
			if is := cached(t, m); is > most {
				t.Fatalf("it has %d bytes, more than %d", is, most)
			}
		}
		if lacked := requests > len(list)/2; !lacked {
			t.Errorf("it was %d requests for %d objects, which do not fit into the cache", requests, len(list))
		}
	}
	if again := p.read(m, list[len(list)-1]) + p.read(m, list[len(list)-1]); again > 1 {
		t.Errorf("what was read just now took %d requests", again)
	}
	must.OK(t, m.Close())
	m = p.open(state)
	before := cached(t, m)
	m.SetMostCached(before) // one more is too much
	for _, o := range list {
		if p.read(m, o); cached(t, m) > before {
			t.Fatalf("it has %d bytes, more than %d", cached(t, m), before)
		}
	}
}

// What is written over, or forgotten and read again, is not counted twice: other objects
// would go for it, and in the end each one at once.
func TestCacheCountsOnce(t *testing.T) {
	p := newPlace(t)
	list := trees(3)
	for _, o := range list {
		p.put(o)
	}
	meta := objects.Object{Type: "commitmeta", Sum: list[0].Sum, Bytes: objects.Dict(objects.Item("x", "ay", objects.Bytes(make([]byte, 900)...))).Bytes}
	p.put(meta)
	m := p.open(t.TempDir())
	m.SetMostCached(6_000)
	p.read(m, list[0])
	for range 20 { // metadata of commits changes, and is read each time
		p.read(m, meta)
		must.OK(t, m.Forget(nameOf(t, list[1])))
		must.OK(t, m.Learn(nameOf(t, list[1])))
		if p.read(m, list[1]) != 1 {
			t.Error("what was forgotten is in the cache")
		}
		damage(t, filepath.Join(m.Path(), "objects", list[2].Path()), string(make([]byte, len(list[2].Bytes))))
		p.read(m, list[2])
	}
	if n := p.read(m, list[0]); n != 0 {
		t.Errorf("an object had to go although there was room, and took %d requests", n)
	}
}

// damage writes other bytes into a file, which need not be there.
func damage(t *testing.T, path, text string) {
	t.Helper()
	if _, err := os.Stat(path); err == nil {
		must.OK(t, os.WriteFile(path, []byte(text), 0o600))
	}
}

// A damaged file of the cache is noticed, and read from the bucket again.
func TestCacheDamaged(t *testing.T) {
	p := newPlace(t)
	o := trees(1)[0]
	p.put(o)
	m := p.open(t.TempDir())
	path := filepath.Join(m.Path(), "objects", o.Path())
	if n := p.read(m, o); n != 1 {
		t.Fatalf("%d requests", n)
	}
	for name, text := range map[string]string{
		"empty": "", "short": string(o.Bytes[:100]), "longer": string(o.Bytes) + "x", "others": string(trees(2)[1].Bytes),
	} {
		t.Run(name, func(t *testing.T) {
			damage(t, path, text)
			if n := p.read(m, o); n != 1 {
				t.Errorf("the damage took %d requests", n)
			}
			if n := p.read(m, o); n != 0 {
				t.Errorf("after it it took %d requests", n)
			}
		})
	}
}
