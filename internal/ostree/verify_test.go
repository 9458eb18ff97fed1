// SPDX-License-Identifier: AGPL-3.0-or-later

package ostree

import (
	"bytes"
	"compress/flate"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// refuses checks that b is refused as n, by both kinds of reader, for that reason.
func refuses(t *testing.T, v *Verifier, n Name, b []byte, reason string) {
	t.Helper()
	for _, r := range []io.Reader{bytes.NewReader(b), iotest.HalfReader(bytes.NewReader(b))} {
		_, err := v.Verify(n, r)
		var bad *BadObjectError
		if !errors.As(err, &bad) {
			t.Errorf("got %v, want a BadObjectError: %s", err, reason)
			continue
		}
		if bad.Object != n || !strings.Contains(bad.Reason, reason) {
			t.Errorf("got %v, want %s", err, reason)
		}
	}
}

// TestHostileFiles pins what a filez may not be although its content checksum
// is right: libostree does not look at it, and clients would choke on it.
func TestHostileFiles(t *testing.T) {
	symlink := func(f *builtFile) {
		*f = builtFile{mode: 0o120777, target: "there", xattrs: gXattrs(), padding: make([]byte, 4)}
	}
	sound, wide := soundFile("hello"), gTuple(gU64(5), gU32(0), gU32(0), gU32(0o100644), gU32(0), gStr(""), gXattrs()).b
	_, soundBytes := sound.bytes()
	for name, tt := range map[string]struct {
		spoil  func(f *builtFile)
		reason string
	}{
		"size too small":    {func(f *builtFile) { f.size = 4 }, "size says 4, its content is longer"},
		"size too large":    {func(f *builtFile) { f.size = 6 }, "size says 6, content has 5 bytes"},
		"size zero":         {func(f *builtFile) { f.size = 0 }, "size says 0, but"},
		"size huge":         {func(f *builtFile) { f.size = 1 << 63 }, "size says 9223372036854775808"},
		"size over limit":   {func(f *builtFile) { f.size = 2 << 20 }, "more than the 1048576"},
		"bomb":              {func(f *builtFile) { f.deflated = deflated(string(make([]byte, 8<<20))) }, "its content is longer"},
		"padding":           {func(f *builtFile) { f.padding[3] = 1 }, "padding"},
		"trailing byte":     {func(f *builtFile) { f.deflated = append(f.deflated, 0) }, "follows its deflate stream"},
		"two streams":       {func(f *builtFile) { f.deflated = append(f.deflated, f.deflated...) }, "follows its deflate stream"},
		"cut":               {func(f *builtFile) { f.deflated = f.deflated[:len(f.deflated)-1] }, "its deflate stream is"},
		"no content":        {func(f *builtFile) { f.deflated = nil }, "its deflate stream is"},
		"zlib wrapper":      {func(f *builtFile) { f.deflated = append([]byte{0x78, 0x9c}, f.deflated...) }, "its deflate stream is"},
		"fifo":              {func(f *builtFile) { f.mode = 0o010644 }, "neither a regular file's nor a symlink's"},
		"device":            {func(f *builtFile) { f.mode = 0o060644 }, "neither a regular file's nor a symlink's"},
		"directory":         {func(f *builtFile) { f.mode = 0o040755 }, "neither a regular file's nor a symlink's"},
		"no type":           {func(f *builtFile) { f.mode = 0o644 }, "neither a regular file's nor a symlink's"},
		"mode bits":         {func(f *builtFile) { f.mode |= 1 << 20 }, "neither a regular file's nor a symlink's"},
		"little endian":     {func(f *builtFile) { f.mode = 0xa4810000 }, "neither a regular file's nor a symlink's"},
		"rdev":              {func(f *builtFile) { f.rdev = 1 }, "rdev is 1"},
		"regular target":    {func(f *builtFile) { f.target = "x" }, "has a symlink target"},
		"target not UTF-8":  {func(f *builtFile) { symlink(f); f.target = "a\xff" }, "normal form"},
		"target with NUL":   {func(f *builtFile) { symlink(f); f.target = "a\x00b" }, "normal form"},
		"target empty":      {func(f *builtFile) { symlink(f); f.target = "" }, "symlink has no target"},
		"target long":       {func(f *builtFile) { symlink(f); f.target = strings.Repeat("a", 4096) }, "target has 4096 bytes"},
		"symlink size":      {func(f *builtFile) { symlink(f); f.size = 5 }, "symlink's size is 5"},
		"symlink tail":      {func(f *builtFile) { symlink(f); f.deflated = []byte{3, 0} }, "follows a symlink's header"},
		"xattr twice":       {func(f *builtFile) { f.xattrs = gXattrs("user.a\x00", "1", "user.a\x00", "2") }, "stands there twice"},
		"xattr empty name":  {func(f *builtFile) { f.xattrs = gXattrs("\x00", "1") }, "name is empty"},
		"xattr no NUL":      {func(f *builtFile) { f.xattrs = gXattrs("user.a", "1") }, "only NUL"},
		"xattr two NULs":    {func(f *builtFile) { f.xattrs = gXattrs("user\x00a\x00", "1") }, "only NUL"},
		"xattr nothing":     {func(f *builtFile) { f.xattrs = gXattrs("", "1") }, "only NUL"},
		"xattr name huge":   {func(f *builtFile) { f.xattrs = gXattrs(strings.Repeat("a", 70_000)+"\x00", "") }, "65536 bytes"},
		"wide offsets":      {func(f *builtFile) { f.header = append(wide, 0) }, "normal form"},
		"header empty":      {func(f *builtFile) { f.header = []byte{} }, "normal form"},
		"header cut":        {func(f *builtFile) { f.header = wide[:20] }, "normal form"},
		"empty stored":      {func(f *builtFile) { f.size, f.content, f.deflated = 0, nil, []byte{1, 0, 0, 0xff, 0xff} }, "size says 0, but"},
		"empty tail":        {func(f *builtFile) { f.size, f.content, f.deflated = 0, nil, []byte{3, 0, 0} }, "follows"},
		"empty cut":         {func(f *builtFile) { f.size, f.content, f.deflated = 0, nil, []byte{3} }, "cut short"},
		"other content":     {func(f *builtFile) { f.deflated = deflated("hallo") }, "its content checksum is"},
		"other owner":       {func(f *builtFile) { f.header = withUID(7) }, "its content checksum is"},
		"nested into other": {func(f *builtFile) { f.deflated = soundBytes }, "its deflate stream is"},
	} {
		t.Run(name, func(t *testing.T) {
			f := soundFile("hello")
			tt.spoil(f)
			n, b := f.bytes()
			refuses(t, NewVerifier(1<<20), n, b, tt.reason)
		})
	}
}

func withUID(uid uint32) []byte {
	return gTuple(gU64(5), gU32(uid), gU32(0), gU32(0o100644), gU32(0), gStr(""), gXattrs()).b
}

// TestShortFiles pins each length at which a filez can end too early, and a
// header that claims to be larger than it is.
func TestShortFiles(t *testing.T) {
	n, b := soundFile("hello hello hello").bytes()
	v := NewVerifier(0)
	for i := range b {
		refuses(t, v, n, b[:i], "")
	}
	refuses(t, v, n, nil, "ends before its header")
	refuses(t, v, n, []byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0}, "too large")
	refuses(t, v, n, []byte{0, 0x90, 0, 0, 0, 0, 0, 0, 1}, "ends within its header")
}

// TestHostileMetadata pins the rules for commits, dirtrees, dirmetas and
// detached metadata; each object has the right checksum.
func TestHostileMetadata(t *testing.T) {
	commit := func(spoil func(c *builtCommit)) []byte {
		c := soundCommit()
		spoil(c)
		return c.bytes()
	}
	meta := func(mode uint32, xattrs ...string) []byte {
		return gTuple(gU32(0), gU32(0), gU32(mode), gXattrs(xattrs...)).b
	}
	files := func(names ...string) []byte {
		var list []gv
		for _, n := range names {
			list = append(list, fileNamed(n))
		}
		return tree(list, nil)
	}
	binding := item("ostree.ref-binding", "as", gArray(0, gStr("a")))
	for name, tt := range map[string]struct {
		typ    Type
		b      []byte
		reason string
	}{
		"commit empty":             {CommitObject, nil, "normal form"},
		"commit zero":              {CommitObject, make([]byte, 100), "normal form"},
		"commit tail":              {CommitObject, append(soundCommit().bytes(), 0), "normal form"},
		"commit parent short":      {CommitObject, commit(func(c *builtCommit) { c.parent = sum32(1)[:31] }), "parent's checksum has 31"},
		"commit parent long":       {CommitObject, commit(func(c *builtCommit) { c.parent = make([]byte, 33) }), "parent's checksum has 33"},
		"commit no tree":           {CommitObject, commit(func(c *builtCommit) { c.tree = nil }), "root dirtree's checksum has 0"},
		"commit no meta":           {CommitObject, commit(func(c *builtCommit) { c.dmeta = nil }), "root dirmeta's checksum has 0"},
		"commit related":           {CommitObject, commit(func(c *builtCommit) { c.related = gArray(0, entry("x", []byte{1})) }), "related"},
		"commit empty key":         {CommitObject, commit(func(c *builtCommit) { c.meta = gDict(item("", "s", gStr(""))) }), "empty key"},
		"commit binding type":      {CommitObject, commit(func(c *builtCommit) { c.meta = gDict(item("ostree.ref-binding", "s", gStr("a"))) }), "ostree.ref-binding"},
		"commit binding twice":     {CommitObject, commit(func(c *builtCommit) { c.meta = gDict(binding, binding) }), "ostree.ref-binding"},
		"commit collection":        {CommitObject, commit(func(c *builtCommit) { c.meta = gDict(item("ostree.collection-binding", "ay", gBytes(1))) }), "collection-binding"},
		"commit bad variant":       {CommitObject, commit(func(c *builtCommit) { c.meta = gDict(item("a", "z", gBytes(1))) }), "normal form"},
		"commit deep variant":      {CommitObject, commit(func(c *builtCommit) { c.meta = gDict(item("a", "v", deepVariant(80))) }), "normal form"},
		"commit deep type":         {CommitObject, commit(func(c *builtCommit) { c.meta = gDict(item("a", strings.Repeat("a", 80)+"y", gBytes())) }), "normal form"},
		"commit padding":           {CommitObject, bytes.Replace(commit(func(c *builtCommit) { c.meta = gDict(item("key", "s", gStr("v"))) }), []byte("key\x00\x00"), []byte("key\x00\x01"), 1), "normal form"},
		"tree empty":               {DirTree, nil, "normal form"},
		"tree tail":                {DirTree, append(files("a"), 0), "normal form"},
		"tree unsorted":            {DirTree, files("b", "a"), `"a" is not in sorted order`},
		"tree twice":               {DirTree, files("a", "a"), `"a" stands there twice`},
		"tree signed sort":         {DirTree, files("é", "z"), "not in sorted order"},
		"tree empty name":          {DirTree, files(""), "name is empty"},
		"tree dot":                 {DirTree, files("."), "not a file's"},
		"tree dot dot":             {DirTree, files(".."), "not a file's"},
		"tree slash":               {DirTree, files("a/b"), "slash"},
		"tree NUL":                 {DirTree, files("a\x00b"), "normal form"},
		"tree not UTF-8":           {DirTree, files("a\xff"), "normal form"},
		"tree dir dot dot":         {DirTree, tree(nil, []gv{dirNamed("..")}), "not a file's"},
		"tree dirs unsorted":       {DirTree, tree(nil, []gv{dirNamed("b"), dirNamed("a")}), "sorted order"},
		"tree file and dir":        {DirTree, tree([]gv{fileNamed("a"), fileNamed("c")}, []gv{dirNamed("b"), dirNamed("c")}), "a file's and a directory's"},
		"tree checksum":            {DirTree, tree([]gv{entry("a", sum32(1)[:20])}, nil), `checksum of "a" has 20`},
		"tree dir checksum":        {DirTree, tree(nil, []gv{entry("a", sum32(1), nil)}), `checksum of "a" has 0`},
		"dirmeta empty":            {DirMeta, nil, "normal form"},
		"dirmeta of a file":        {DirMeta, meta(0o100644), "not a directory's"},
		"dirmeta without type":     {DirMeta, meta(0o755), "not a directory's"},
		"dirmeta bits":             {DirMeta, meta(0o40755 | 1<<17), "not a directory's"},
		"dirmeta little endian":    {DirMeta, meta(0xed410000), "not a directory's"},
		"dirmeta xattr twice":      {DirMeta, meta(0o40755, "a\x00", "", "a\x00", ""), "twice"},
		"dirmeta xattr name":       {DirMeta, meta(0o40755, "a", ""), "only NUL"},
		"commitmeta garbage":       {CommitMeta, []byte("garbage"), "normal form"},
		"commitmeta empty key":     {CommitMeta, gDict(item("", "s", gStr(""))).b, "empty key"},
		"commitmeta key twice":     {CommitMeta, gDict(item("a", "s", gStr("")), item("a", "s", gStr(""))).b, "twice"},
		"commitmeta too large":     {CommitMeta, make([]byte, MaxCommitMeta+1), "larger than 1048576"},
		"metadata too large":       {DirTree, make([]byte, MaxMetadata+1), "larger than 10485760"},
		"commit is no dirtree":     {DirTree, soundCommit().bytes(), "normal form"},
		"dirmeta of wrong xattrs":  {DirMeta, meta(0o40755, "", ""), "only NUL"},
		"unknown type is no crash": {Type(9), []byte{1}, "type is unknown"},
	} {
		t.Run(name, func(t *testing.T) {
			refuses(t, NewVerifier(0), metaName(tt.typ, tt.b), tt.b, tt.reason)
		})
	}
}

func deepVariant(levels int) gv {
	b := writeVariant("y", []byte{1})
	for range levels {
		b = writeVariant("v", b)
	}
	return gv{b, 7, false}
}

// TestOneByteChanges pins that no byte of a real object can change. Of a filez,
// bytes of the deflate stream may differ as long as it inflates to the same:
// each compressor writes its own. Detached metadata has no checksum.
func TestOneByteChanges(t *testing.T) {
	r := sharedRepo(t)
	v := NewVerifier(0)
	for _, n := range objects(t, r) {
		b := load(t, r, n)
		if n.Type == CommitMeta || len(b) > 3000 {
			continue
		}
		for i := range b {
			changed := bytes.Clone(b)
			changed[i] ^= 1 << (i % 8)
			_, err := v.Verify(n, bytes.NewReader(changed))
			if err == nil && !(n.Type == File && sameInflated(b, changed)) {
				t.Errorf("%s: byte %d changed unnoticed", n, i)
			}
		}
		if _, err := v.Verify(n, bytes.NewReader(append(b, 0))); err == nil {
			t.Errorf("%s: a byte appended unnoticed", n)
		}
	}
}

func sameInflated(a, b []byte) bool {
	head := 8 + int(be32(a))
	x, _ := io.ReadAll(flate.NewReader(bytes.NewReader(a[head:])))
	y, err := io.ReadAll(flate.NewReader(bytes.NewReader(b[head:])))
	return err == nil && bytes.Equal(a[:head], b[:head]) && bytes.Equal(x, y)
}

// TestReaderFails pins that a failing disk is not taken for a bad object.
func TestReaderFails(t *testing.T) {
	broken := errors.New("broken disk")
	n, b := soundFile(strings.Repeat("hello ", 1000)).bytes()
	m := soundCommit().bytes()
	v := NewVerifier(0)
	for i := range b {
		_, err := v.Verify(n, io.MultiReader(bytes.NewReader(b[:i]), iotest.ErrReader(broken)))
		var bad *BadObjectError
		if !errors.Is(err, broken) || errors.As(err, &bad) {
			t.Fatalf("after %d bytes: %v", i, err)
		}
	}
	if _, err := v.Verify(metaName(CommitObject, m), iotest.TimeoutReader(iotest.OneByteReader(bytes.NewReader(m)))); !errors.Is(err, iotest.ErrTimeout) {
		t.Error(err)
	}
	if _, err := v.Verify(n, bytes.NewReader(b)); err != nil {
		t.Errorf("a Verifier does not recover: %v", err)
	}
}

// TestVerifyCounts pins what Verify says about sizes, and that it reads to the
// end from where the caller's reader stands.
func TestVerifyCounts(t *testing.T) {
	n, b := soundFile("hello").bytes()
	r := bytes.NewReader(append([]byte("skipped"), b...))
	_, _ = r.Seek(7, io.SeekStart)
	if got, err := NewVerifier(5).Verify(n, r); got != 5 || err != nil || r.Len() != 0 {
		t.Errorf("%d, %v, %d left", got, err, r.Len())
	}
	m := soundCommit().bytes()
	if got, err := NewVerifier(0).Verify(metaName(CommitObject, m), bytes.NewReader(m)); got != int64(len(m)) || err != nil {
		t.Errorf("%d, %v", got, err)
	}
}
