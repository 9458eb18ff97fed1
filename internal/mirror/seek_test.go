// SPDX-License-Identifier: AGPL-3.0-or-later

package mirror_test

import (
	"slices"
	"testing"

	"github.com/lirios/ostree-upload/internal/bucket"
	"github.com/lirios/ostree-upload/internal/mirror"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/store"
)

// breakListings refuses the n-th listing from now on, and all behind it.
func (p *place) breakListings(n int) {
	lists := 0
	p.proxy.Play(func(r store.Request) *store.Fault {
		if r.Kind == "ListObjectsV2" {
			if lists++; lists >= n {
				return store.Denied
			}
		}
		return nil
	})
}

// littered has objects, and beside them what is none. It returns the objects.
func (p *place) littered(n int) (list []ostree.Name) {
	p.t.Helper()
	for _, o := range trees(n) {
		list = append(list, p.put(o))
	}
	path := list[0].Path()
	for _, key := range []string{"x", "ab/.tmp", "zz/" + path[3:], path + ".bak", path + "~", "ab/c d+%ü", path[3:], path[:2] + "//" + path[3:]} {
		_, err := p.bucket.Put(p.t.Context(), "objects/"+key, []byte("no object"))
		must.OK(p.t, err)
	}
	return list
}

// What others removed, or left empty, is found, and not in the set any more: by asking for
// each, or by a listing in one part or in many, whatever takes fewer requests.
func TestSeek(t *testing.T) {
	for name, tt := range map[string]struct {
		absent, few int
		kind        string // of its requests
		least, most int    // how many they are
	}{
		"each":          {0, 20_000, "HeadObject", 1, 1},
		"each, if many": {100, 3, "HeadObject", 110, 110},
		"listed":        {300, 20_000, "ListObjectsV2", 1, 10},
		"in parts":      {300, 3, "ListObjectsV2", 257, 270},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			list := p.littered(10)
			m := p.open(t.TempDir())
			m.SetFew(tt.few)
			absent := names(tt.absent)
			must.OK(t, m.Learn(absent...))
			sought := slices.Concat(list, absent)
			want := slices.Concat([]ostree.Name{list[2], list[5]}, absent)
			if tt.most == 1 {
				sought, want = list[2:3], list[2:3]
			}
			must.OK(t, p.bucket.Delete(t.Context(), mirror.Key(list[2]), ""))
			_, err := p.bucket.Put(t.Context(), mirror.Key(list[5]), nil)
			must.OK(t, err)
			p.proxy.Play(nil)
			gone, err := m.Seek(t.Context(), sought)
			must.OK(t, err)
			if n := p.proxy.Counts()[tt.kind]; n < tt.least || n > tt.most || n != len(p.proxy.Requests()) {
				t.Errorf("the requests are %v", p.proxy.Counts())
			}
			slices.SortFunc(gone, ostree.Name.Compare)
			slices.SortFunc(want, ostree.Name.Compare)
			if !slices.Equal(gone, want) {
				t.Errorf("%d are gone, not %d", len(gone), len(want))
			}
			for _, n := range sought {
				if has(t, m, n) == slices.Contains(want, n) {
					t.Errorf("the set has %s: %v", n, has(t, m, n))
				}
			}
			gone, err = m.Seek(t.Context(), list[:1])
			if len(gone) != 0 || err != nil {
				t.Errorf("one that is there: %v, %v", gone, err)
			}
		})
	}
}

// If the store does not answer all, nothing is taken for gone.
func TestSeekFails(t *testing.T) {
	for name, few := range map[string]int{"each": 20_000, "in parts": 3} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			list := p.littered(10)
			m := p.open(t.TempDir())
			m.SetFew(few)
			sought := list[:1]
			if name != "each" {
				sought = slices.Concat(list, names(300))
				must.OK(t, m.Learn(sought...))
			}
			for _, n := range list {
				must.OK(t, p.bucket.Delete(t.Context(), mirror.Key(n), ""))
			}
			p.proxy.Play(func(r store.Request) *store.Fault {
				if r.Kind == "HeadObject" || r.Kind == "ListObjectsV2" && r.N > 100 {
					return store.Denied
				}
				return nil
			})
			gone, err := m.Seek(t.Context(), sought)
			if err == nil || len(gone) > 0 {
				t.Errorf("%v are gone, %v", gone, err)
			}
			for _, n := range sought {
				if !has(t, m, n) {
					t.Errorf("the set lacks %s", n)
				}
			}
		})
	}
}

// A list of few objects or of many visits just the objects.
func TestList(t *testing.T) {
	p := newPlace(t)
	want := p.littered(20)
	m := p.open(t.TempDir())
	slices.SortFunc(want, ostree.Name.Compare)
	for _, few := range []int{20_000, 3} {
		m.SetFew(few)
		seen := make(chan ostree.Name, 100)
		must.OK(t, m.List(t.Context(), func(n ostree.Name, _ bucket.Entry) error {
			seen <- n
			return nil
		}))
		close(seen)
		var got []ostree.Name
		for n := range seen {
			got = append(got, n)
		}
		slices.SortFunc(got, ostree.Name.Compare)
		if got = slices.Compact(got); !slices.Equal(got, want) {
			t.Errorf("with up to %d in one part it visits %v", few, got)
		}
	}
}

// Compare finds what the set has too much and what it lacks, and puts it right.
func TestCompare(t *testing.T) {
	p := newPlace(t)
	list := p.littered(6)
	m := p.open(t.TempDir())
	must.OK(t, m.Forget(list[0], list[1]))
	must.OK(t, p.bucket.Delete(t.Context(), mirror.Key(list[2]), ""))
	must.OK(t, m.Learn(names(1)...))
	gone, unknown, err := m.Compare(t.Context())
	if len(gone) != 2 || unknown != 2 || err != nil {
		t.Errorf("%v are gone and %d unknown, %v", gone, unknown, err)
	}
	gone, unknown, err = m.Compare(t.Context())
	if len(gone) != 0 || unknown != 0 || err != nil {
		t.Errorf("then %v are gone and %d unknown, %v", gone, unknown, err)
	}
	if !has(t, m, list[0]) || has(t, m, list[2]) {
		t.Error("it was not put right")
	}
}
