// SPDX-License-Identifier: AGPL-3.0-or-later

package mirror_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/internal/mirror"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/test/must"
	ts "github.com/lirios/ostree-upload/test/server"
)

// openEnv has the test's binary open a set of names, and do nothing else: some damage ends
// a process.
const openEnv = "MIRROR_TEST_OPENS"

func TestMain(m *testing.M) {
	path := os.Getenv(openEnv)
	if path == "" {
		os.Exit(m.Run())
	}
	listed, err := mirror.OpenNames(path, os.Getenv(openEnv+"_OF"))
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("listed:", listed)
}

// names are those of objects that are nowhere.
func names(n int) (list []ostree.Name) {
	for i := range n {
		name := ostree.Name{Type: ostree.DirTree}
		copy(name.Checksum[:], fmt.Sprintf("%c%08d", i*31%256, i))
		list = append(list, name)
	}
	return list
}

// A set of names that was lost or damaged is made anew by a listing. One that was not is
// not.
func TestNamesDamaged(t *testing.T) {
	p := newPlace(t)
	tree := p.put(trees(1)[0])
	nowhere := names(3000)
	const page = 4096
	for name, tt := range map[string]struct {
		spoil func(b []byte) []byte // nil: removed
		keeps bool
	}{
		"sound":        {spoil: func(b []byte) []byte { return b }, keeps: true},
		"gone":         {},
		"empty":        {spoil: func([]byte) []byte { return []byte{} }},
		"a byte":       {spoil: func(b []byte) []byte { return b[:1] }},
		"a page":       {spoil: func(b []byte) []byte { return b[:page] }},
		"two pages":    {spoil: func(b []byte) []byte { return b[:2*page] }},
		"half":         {spoil: func(b []byte) []byte { return b[:len(b)/2] }},
		"other text":   {spoil: func(b []byte) []byte { return []byte(strings.Repeat("names ", len(b)/6)) }},
		"no metas":     {spoil: func(b []byte) []byte { clear(b[:2*page]); return b }},
		"zeros behind": {spoil: func(b []byte) []byte { clear(b[2*page:]); return b }},
		"ones behind":  {spoil: func(b []byte) []byte { fill(b[2*page:], 0xff); return b }},
	} {
		t.Run(name, func(t *testing.T) {
			state := t.TempDir()
			m := p.open(state)
			must.OK(t, m.Learn(nowhere...))
			must.OK(t, m.Close())
			file := filepath.Join(mirror.Folder(state), "names.db")
			if tt.spoil == nil {
				must.OK(t, os.Remove(file))
			} else {
				b, err := os.ReadFile(file)
				must.OK(t, err)
				must.OK(t, os.WriteFile(file, tt.spoil(b), 0o600))
			}
			openNames(t, file, p.bucket.String())
			p.proxy.Play(nil)
			m = p.open(state)
			if listed := p.proxy.Counts()["ListObjectsV2"] > 0; listed == tt.keeps {
				t.Errorf("the bucket was listed: %v", listed)
			}
			if !has(t, m, tree) || has(t, m, nowhere[0]) != tt.keeps || has(t, m, nowhere[2999]) != tt.keeps {
				t.Error("the set is not what was to be")
			}
		})
	}
}

func fill(b []byte, with byte) {
	for i := range b {
		b[i] = with
	}
}

// openNames opens a set in a process of its own, which may be ended by what is damaged:
// the next one is not.
func openNames(t *testing.T, file, of string) {
	t.Helper()
	open := func() ([]byte, error) {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), openEnv+"="+file, openEnv+"_OF="+of)
		return cmd.CombinedOutput()
	}
	if out, err := open(); err != nil {
		t.Logf("the first process: %v, %.300s", err, out)
		if out, err := open(); err != nil {
			t.Fatalf("the second process: %v, %s", err, out)
		}
	}
}

// The set of another repository is not taken for that of this one.
func TestNamesOfAnother(t *testing.T) {
	p, other := newPlace(t), newPlace(t)
	here, there := p.put(trees(2)[0]), other.put(trees(2)[1])
	state := t.TempDir()
	must.OK(t, other.open(state).Close())
	must.OK(t, os.Remove(filepath.Join(mirror.Folder(state), "config")))
	file := filepath.Join(mirror.Folder(state), "names.db")
	listed, err := mirror.OpenNames(file, "s3://another/repository")
	if listed || err != nil {
		t.Fatalf("it was taken: %v, %v", listed, err)
	}
	m := p.open(state)
	if !has(t, m, here) || has(t, m, there) {
		t.Error("it has the names of another repository")
	}
}

// A set that cannot be opened is kept, if that says nothing of what is in it.
func TestNamesInUse(t *testing.T) {
	p := newPlace(t)
	state := t.TempDir()
	m := p.open(state)
	file := filepath.Join(mirror.Folder(state), "names.db")
	before, err := os.Stat(file)
	must.OK(t, err)
	if _, err := mirror.OpenNames(file, p.bucket.String()); err == nil || !strings.Contains(err.Error(), "another process has") {
		t.Errorf("it says %v", err)
	}
	after, err := os.Stat(file)
	if err != nil || !os.SameFile(before, after) {
		t.Errorf("the file was made anew: %v", err)
	}
	must.OK(t, m.Close())
	if listed, err := mirror.OpenNames(file, p.bucket.String()); !listed || err != nil {
		t.Errorf("afterwards: %v, %v", listed, err)
	}
}

// A first listing that breaks off is made again.
func TestListingBreaksOff(t *testing.T) {
	p := newPlace(t)
	var list []ostree.Name
	for _, o := range trees(20) {
		list = append(list, p.put(o))
	}
	state := t.TempDir()
	p.breakListings(2)
	must.OK(t, mirror.ReadConfig(t.Context(), mirror.Folder(state), p.bucket, ts.Logger(t)))
	if _, err := mirror.Open(t.Context(), mirror.Folder(state), p.bucket, ts.Logger(t)); err == nil {
		t.Fatal("it says nothing")
	}
	p.proxy.Play(nil)
	m := p.open(state)
	for _, n := range list {
		if !has(t, m, n) {
			t.Errorf("it lacks %s", n)
		}
	}
}
