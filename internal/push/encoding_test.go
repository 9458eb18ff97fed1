// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package push

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/client"
	"github.com/lirios/ostree-upload/internal/encode"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/server"
)

// versions makes a repository of a mode with two commits: in the second, files have
// changed a little, one has moved to a folder of another version, and some are new.
func versions(t *testing.T, mode string) (repo, before, after string) {
	t.Helper()
	repo, tree := filepath.Join(t.TempDir(), "build"), t.TempDir()
	must.OSTree(t, "init", "--repo="+repo, "--mode="+mode)
	r := rand.New(rand.NewPCG(1, 2))
	write := func(name string, b []byte) {
		path := filepath.Join(tree, name)
		must.OK(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must.OK(t, os.WriteFile(path, b, 0o644))
	}
	noise := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return b
	}
	program, library := noise(5<<20), noise(300<<10)
	write("bin/program", program)
	write("lib/thing-1.2/libthing.so.1.2", library)
	write("empty", nil)
	for i := range 50 {
		write(fmt.Sprintf("share/text-%d", i), bytes.Repeat(fmt.Appendf(nil, "line %d of a text\n", i), 100))
	}
	commit := func() string {
		return must.OSTree(t, "commit", "--repo="+repo, "--branch=main", "--owner-uid=0", "--owner-gid=0", "--no-xattrs", "--tree=dir="+tree)
	}
	before = commit()
	changed := slices.Insert(slices.Clone(program), 1000, []byte("a few bytes more")...)
	for i := 2 << 20; i < 3<<20; i += 50 {
		changed[i]++
	}
	write("bin/program", changed)
	must.OK(t, os.RemoveAll(filepath.Join(tree, "lib/thing-1.2")))
	library[1000]++
	write("lib/thing-1.3/libthing.so.1.3", library)
	for i := range 20 {
		write(fmt.Sprintf("share/text-%d", i), bytes.Repeat(fmt.Appendf(nil, "line %d of another text\n", i), 100))
	}
	write("share/new", noise(1000))
	must.OK(t, os.Symlink("new", filepath.Join(tree, "share/link")))
	return repo, before, commit()
}

// pushed pushes main and tells what came of it.
func pushed(t *testing.T, repo string, s *server.Server, change func(*Options)) *Result {
	t.Helper()
	opt := Options{Repo: repo, Server: client.Options{Address: s.URL, Token: s.Token}, Refs: []string{"main"}, Depth: -1, RetryFor: time.Minute}
	change(&opt)
	result, err := Run(context.Background(), opt)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// TestEncodings pins that an update arrives by each encoding, from and to repositories
// of all kinds, and that differences take a small part of the bytes.
func TestEncodings(t *testing.T) {
	for _, modes := range [][2]string{{"archive", ostree.ModeArchive}, {"bare-user", ostree.ModeBareUser}} {
		repo, before, after := versions(t, modes[0])
		for _, encoding := range []string{encode.NameArchive, encode.NameZstd, encode.NameDelta, Auto} {
			t.Run(modes[0]+" "+encoding, func(t *testing.T) {
				s := server.Start(t, modes[1])
				with := func(o *Options) { o.Encoding = encoding }
				must.OSTree(t, "reset", "--repo="+repo, "main", before)
				pushed(t, repo, s, with)
				must.OSTree(t, "reset", "--repo="+repo, "main", after)
				result := pushed(t, repo, s, with)
				if s.Ref("main") != after || result.Rounds > 0 {
					t.Fatalf("main is at %s after %d more rounds", s.Ref("main"), result.Rounds)
				}
				used := result.Encodings[encoding].Objects > 0
				if !used && encoding != Auto {
					t.Errorf("nothing was sent as %s: %+v", encoding, result.Encodings)
				}
				if most := int64(1 << 20); encoding == encode.NameDelta && result.BytesSent > most {
					t.Errorf("%d bytes were sent, more than %d", result.BytesSent, most)
				}
				if d := result.Encodings[encode.NameDelta].Objects; encoding == encode.NameDelta && d < 2 {
					t.Errorf("%d objects were sent as differences", d)
				}
			})
		}
	}
}

// TestWithoutOldVersion pins that a build repository that lacks the old commit, a shallow
// one or a fresh builder, pushes without differences and without an error.
func TestWithoutOldVersion(t *testing.T) {
	repo, before, after := versions(t, "archive")
	s := server.Start(t, ostree.ModeArchive)
	must.OSTree(t, "reset", "--repo="+repo, "main", before)
	pushed(t, repo, s, func(*Options) {})
	shallow := filepath.Join(t.TempDir(), "shallow")
	must.OSTree(t, "init", "--repo="+shallow, "--mode=archive")
	must.OSTree(t, "pull-local", "--repo="+shallow, "--depth=0", repo, after)
	must.OSTree(t, "refs", "--repo="+shallow, "--create=main", after)
	result := pushed(t, shallow, s, func(o *Options) { o.Encoding = encode.NameDelta })
	if s.Ref("main") != after || result.Encodings[encode.NameDelta].Objects > 0 || result.Encodings[encode.NameZstd].Objects == 0 {
		t.Errorf("main is at %s, sent %+v", s.Ref("main"), result.Encodings)
	}
}

// TestSourceGone pins that an object is sent whole if the server has not got what its
// difference is of.
func TestSourceGone(t *testing.T) {
	repo, before, after := versions(t, "archive")
	s := server.Start(t, ostree.ModeArchive)
	must.OSTree(t, "reset", "--repo="+repo, "main", before)
	pushed(t, repo, s, func(*Options) {})
	must.OSTree(t, "reset", "--repo="+repo, "main", after)
	// Damage the largest file of the old commit on the server.
	var victim string
	var size int64
	must.OK(t, filepath.Walk(filepath.Join(s.Repo, "objects"), func(path string, info os.FileInfo, err error) error {
		if err == nil && info.Size() > size && filepath.Ext(path) == ".filez" {
			victim, size = path, info.Size()
		}
		return err
	}))
	whole, err := os.ReadFile(victim)
	must.OK(t, err)
	must.OK(t, os.Remove(victim))
	must.OK(t, os.WriteFile(victim, whole[:len(whole)/2], 0o644))
	t.Cleanup(func() { must.OK(t, os.WriteFile(victim, whole, 0o644)) }) // for fsck
	result := pushed(t, repo, s, func(o *Options) { o.Encoding = encode.NameDelta })
	if s.Ref("main") != after || result.Rounds != 1 || result.Encodings[encode.NameArchive].Objects == 0 {
		t.Errorf("main is at %s after %d more rounds, sent %+v", s.Ref("main"), result.Rounds, result.Encodings)
	}
}

// TestLongestDifference pins that the longest difference fits into a pack, also if it does
// not compress.
func TestLongestDifference(t *testing.T) {
	w, err := encode.NewWriter(sharedWindow, sharedLevel)
	must.OK(t, err)
	noise := make([]byte, differenceMost)
	_, _ = rand.NewChaCha8([32]byte{}).Read(noise)
	must.OK(t, w.Frame(ostree.Name{Type: ostree.File}, encode.Delta, differenceMost))
	_, err = w.Write(noise)
	must.OK(t, err)
	pack, err := w.Close()
	must.OK(t, err)
	if len(pack) > wire.MaxPack {
		t.Errorf("the pack has %d bytes, more than %d", len(pack), wire.MaxPack)
	}
}

// TestWithoutVersions pins which names are versions of one file.
func TestWithoutVersions(t *testing.T) {
	for name, want := range map[string]string{
		"libthing.so.1.2.30": "libthing.so.#", "libthing-1.2.so": "libthing-#.so", "plain": "plain",
		"linux-5.10.0-8-amd64": "linux-#-amd#", "a1b2": "a#b#", "": "", "v2.": "v#.",
	} {
		if got := withoutVersions(name); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}

// fixedRate is a link of a known rate.
type fixedRate struct {
	isSlow, isBusy, isNew bool
	bytes                 int64
}

func (f fixedRate) slow() bool    { return f.isSlow }
func (f fixedRate) fast() bool    { return !f.isSlow && !f.isNew }
func (f fixedRate) idle() bool    { return !f.isBusy }
func (f fixedRate) free() bool    { return !f.isBusy }
func (f fixedRate) plain() int64  { return f.bytes }
func (f fixedRate) second() int64 { return f.bytes }

// TestPool pins who gets what: on a slow link encoders what saves most, twins together,
// and uploaders packs that are ready or else what is small; on a fast one uploaders all of
// it, as it came. Nothing in archive form goes beside what keeps a slow link
// busy, and nothing large while it is not known how fast the link is.
func TestPool(t *testing.T) {
	of := func(i byte, folder uint32, size int64) item {
		return item{name: ostree.Name{Checksum: ostree.Checksum{i}, Type: ostree.File}, origin: origin{folder: folder}, size: size}
	}
	fresh := of(1, 0, 500)
	fresh.origin.none = true
	items := []item{fresh, of(2, 7, 1<<20), of(3, 8, 4<<20), of(4, 7, 5<<20), of(5, 8, 8<<20), of(6, 7, 1<<20)}
	fill := func(slow bool) *pool {
		p := newPool(Auto, fixedRate{isSlow: slow, bytes: 1000})
		for _, i := range items {
			must.OK(t, p.add(t.Context(), i))
		}
		p.close()
		return p
	}
	p := fill(true)
	var order []byte
	for first := true; ; first = false {
		batch := p.batch(t.Context(), first)
		if len(batch) == 0 {
			break
		}
		for _, i := range batch {
			order = append(order, i.name.Checksum[0])
		}
		if len(order) == 3 {
			_, one, ok := p.take(t.Context())
			if !ok || one.name != fresh.name {
				t.Errorf("the uploader gets %v", one.name)
			}
		}
	}
	if !bytes.Equal(order, []byte{5, 3, 4, 2, 6}) {
		t.Errorf("encoders get %v", order)
	}
	p.done(&encoded{pack: make([]byte, 10)}, []item{items[3]})
	if pack, _, ok := p.take(t.Context()); !ok || pack == nil {
		t.Error("the pack is not sent")
	}
	if _, one, ok := p.take(t.Context()); !ok || one.name != items[3].name {
		t.Error("the item that goes alone is not sent")
	}
	if _, _, ok := p.take(t.Context()); ok {
		t.Error("there is more")
	}
	p = fill(true)
	p.rate = fixedRate{isSlow: true, isBusy: true, bytes: 1000}
	if one, ok := p.takePlain(); ok {
		t.Errorf("%v goes beside a pack", one.name)
	}
	p.rate = fixedRate{isNew: true, isBusy: true, bytes: 1000}
	if _, one, _ := p.take(t.Context()); one.name != fresh.name {
		t.Errorf("the uploader of a new link gets %v", one.name)
	}
	if one, ok := p.takePlain(); ok {
		t.Errorf("%v goes although the link may be slow", one.name)
	}
	p = fill(false)
	for _, want := range items {
		if _, one, ok := p.take(t.Context()); !ok || one.name != want.name {
			t.Errorf("the uploader of a fast link gets %v, want %v", one.name, want.name)
		}
	}
}
