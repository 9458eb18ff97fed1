// SPDX-License-Identifier: AGPL-3.0-or-later

package ostree

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"io"
	"testing"

	"github.com/klauspost/compress/flate"
)

// A small GVariant builder for objects that libostree would never write. Each
// value carries its alignment and whether its size is fixed.
type gv struct {
	b     []byte
	align int
	fixed bool
}

func gU32(v uint32) gv { return gv{binary.BigEndian.AppendUint32(nil, v), 3, true} }
func gU64(v uint64) gv { return gv{binary.BigEndian.AppendUint64(nil, v), 7, true} }
func gStr(s string) gv { return gv{append([]byte(s), 0), 0, false} }
func gBytes(b ...byte) gv {
	return gv{b, 0, false}
}

// gTuple serialises a tuple of which at least one member varies in size.
func gTuple(m ...gv) gv {
	var b []byte
	var ends []int
	align := 0
	for i, v := range m {
		align = max(align, v.align)
		b = append(b, make([]byte, alignUp(len(b), v.align)-len(b))...)
		b = append(b, v.b...)
		if !v.fixed && i < len(m)-1 {
			ends = append([]int{len(b)}, ends...)
		}
	}
	return gv{appendOffsets(b, len(b), ends), align, false}
}

// gArray serialises an array of elements that vary in size.
func gArray(align int, elems ...gv) gv {
	list := make([][]byte, len(elems))
	for i, e := range elems {
		list[i] = e.b
	}
	return gv{writeArray(align, list), align, false}
}

func gXattrs(pairs ...string) gv {
	var list []gv
	for i := 0; i < len(pairs); i += 2 {
		list = append(list, gTuple(gBytes([]byte(pairs[i])...), gBytes([]byte(pairs[i+1])...)))
	}
	return gArray(0, list...)
}

func gDict(items ...gvItem) gv { return gv{writeDict(items), 7, false} }

func item(key, typ string, v gv) gvItem { return gvItem{key, writeVariant(typ, v.b)} }

// builtCommit is a commit with sound parts, to be spoilt one at a time.
type builtCommit struct {
	meta                gv
	parent, tree, dmeta []byte
	related             gv
}

func soundCommit() *builtCommit {
	return &builtCommit{meta: gDict(), tree: bytes.Repeat([]byte{1}, 32), dmeta: bytes.Repeat([]byte{2}, 32), related: gArray(0)}
}

func (c *builtCommit) bytes() []byte {
	return gTuple(c.meta, gBytes(c.parent...), c.related, gStr("subject"), gStr("body"), gU64(1), gBytes(c.tree...), gBytes(c.dmeta...)).b
}

// entry is a file of a dirtree ("name") or a subdirectory.
func entry(name string, sums ...[]byte) gv {
	m := []gv{gStr(name)}
	for _, s := range sums {
		m = append(m, gBytes(s...))
	}
	return gTuple(m...)
}

func sum32(c byte) []byte { return bytes.Repeat([]byte{c}, 32) }

func fileNamed(name string) gv { return entry(name, sum32(3)) }
func dirNamed(name string) gv  { return entry(name, sum32(4), sum32(5)) }

func tree(files, dirs []gv) []byte { return gTuple(gArray(0, files...), gArray(0, dirs...)).b }

// builtFile is a filez with sound parts.
type builtFile struct {
	size                 uint64
	uid, gid, mode, rdev uint32
	target               string
	xattrs               gv
	padding              []byte
	deflated             []byte
	content              []byte // what the checksum is over
	header               []byte // the whole (tuuuusa(ayay)), if not made of the above
}

func soundFile(content string) *builtFile {
	return &builtFile{size: uint64(len(content)), mode: 0o100644, xattrs: gXattrs(), padding: make([]byte, 4), deflated: deflated(content), content: []byte(content)}
}

func deflated(content string) []byte {
	if content == "" {
		return []byte{3, 0}
	}
	var b bytes.Buffer
	w, _ := flate.NewWriter(&b, 6)
	_, _ = io.WriteString(w, content)
	_ = w.Close()
	return b.Bytes()
}

// bytes is the object and the name that its content hashes to.
func (f *builtFile) bytes() (Name, []byte) {
	rest := []gv{gU32(f.uid), gU32(f.gid), gU32(f.mode), gU32(f.rdev), gStr(f.target), f.xattrs}
	header := f.header
	if header == nil {
		header = gTuple(append([]gv{gU64(f.size)}, rest...)...).b
	}
	plain := gTuple(rest...).b
	h := sha256.New()
	h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(plain))))
	h.Write(make([]byte, 4))
	h.Write(plain)
	h.Write(f.content)
	b := binary.BigEndian.AppendUint32(nil, uint32(len(header)))
	b = append(append(append(b, f.padding...), header...), f.deflated...)
	return Name{Checksum(h.Sum(nil)), File}, b
}

func metaName(t Type, b []byte) Name { return Name{sha256.Sum256(b), t} }

// TestBuilderIsSound pins that the builder's objects pass as they are, so that a
// refusal in the other tables has the reason that it says.
func TestBuilderIsSound(t *testing.T) {
	v := NewVerifier(0)
	verify := func(n Name, b []byte) {
		t.Helper()
		if _, err := v.Verify(n, bytes.NewReader(b)); err != nil {
			t.Error(err)
		}
	}
	for _, content := range []string{"", "x", string(make([]byte, 100_000))} {
		n, b := soundFile(content).bytes()
		verify(n, b)
	}
	c := soundCommit().bytes()
	verify(metaName(CommitObject, c), c)
	tr := tree([]gv{fileNamed("a"), fileNamed("b")}, []gv{dirNamed("c")})
	verify(metaName(DirTree, tr), tr)
	m := gTuple(gU32(0), gU32(0), gU32(0o40755), gXattrs("user.b\x00", "1", "user.a\x00", "")).b
	verify(metaName(DirMeta, m), m)
}
