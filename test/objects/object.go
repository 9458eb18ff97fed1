// SPDX-License-Identifier: AGPL-3.0-or-later

package objects

import (
	"bytes"
	"compress/flate"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"io"
)

// Object is an object in archive form. Sum is the checksum that it goes by.
type Object struct {
	Type  string // commit, dirtree, dirmeta, filez or commitmeta
	Sum   [32]byte
	Bytes []byte
}

// Name is "<64 hex digits>.<type>".
func (o Object) Name() string { return hex.EncodeToString(o.Sum[:]) + "." + o.Type }

// Path is where an archive repository keeps the object, below objects/.
func (o Object) Path() string { return o.Name()[:2] + "/" + o.Name()[2:] }

// Metadata is an object of that type and these bytes, under their SHA-256.
func Metadata(typ string, b []byte) Object { return Object{typ, sha256.Sum256(b), b} }

// Commit is the parts of a commit object, to be spoilt one at a time.
type Commit struct {
	Meta                  Value
	Parent, Tree, DirMeta []byte
	Related               Value
	Subject               string
}

// SoundCommit is a root commit of a sound tree.
func SoundCommit() *Commit {
	tree, meta := SoundTree(), SoundDirMeta()
	return &Commit{Meta: Dict(), Tree: tree.Sum[:], DirMeta: meta.Sum[:], Related: Array(), Subject: "subject"}
}

// Bytes serialises the commit.
func (c *Commit) Bytes() []byte {
	return Tuple(c.Meta, Bytes(c.Parent...), c.Related, Str(c.Subject), Str("body"), U64(1), Bytes(c.Tree...), Bytes(c.DirMeta...)).Bytes
}

// Entry is a file of a dirtree, which has one checksum, or a subdirectory, which
// has two.
func Entry(name string, sums ...[]byte) Value {
	members := []Value{Str(name)}
	for _, s := range sums {
		members = append(members, Bytes(s...))
	}
	return Tuple(members...)
}

// FileNamed is an entry for the sound file.
func FileNamed(name string) Value {
	o := SoundFile("sound").Object()
	return Entry(name, o.Sum[:])
}

// DirNamed is an entry for an empty directory.
func DirNamed(name string) Value {
	tree, meta := emptyTree(), SoundDirMeta()
	return Entry(name, tree.Sum[:], meta.Sum[:])
}

// Tree serialises a dirtree.
func Tree(files, dirs []Value) []byte { return Tuple(Array(files...), Array(dirs...)).Bytes }

// Files is a dirtree that has the sound file under each of these names.
func Files(names ...string) []byte {
	var list []Value
	for _, n := range names {
		list = append(list, FileNamed(n))
	}
	return Tree(list, nil)
}

// Dirs is a dirtree that has an empty directory under each of these names.
func Dirs(names ...string) []byte {
	var list []Value
	for _, n := range names {
		list = append(list, DirNamed(n))
	}
	return Tree(nil, list)
}

// DirMeta serialises a dirmeta; xattrs are names and values.
func DirMeta(mode uint32, xattrs ...string) []byte {
	return Tuple(U32(0), U32(0), U32(mode), Xattrs(xattrs...)).Bytes
}

func emptyTree() Object { return Metadata("dirtree", Tree(nil, nil)) }

// SoundTree has one file and one empty directory.
func SoundTree() Object {
	return Metadata("dirtree", Tree([]Value{FileNamed("a")}, []Value{DirNamed("b")}))
}

// SoundDirMeta is a plain directory's.
func SoundDirMeta() Object { return Metadata("dirmeta", DirMeta(0o40755)) }

// File is the parts of a filez object.
type File struct {
	Size                 uint64
	UID, GID, Mode, Rdev uint32
	Target               string
	Xattrs               Value
	Padding              []byte // the 4 bytes before the header
	Header               []byte // the (tuuuusa(ayay)), if not made of the above
	Deflated             []byte
	Content              []byte // what the checksum is over
}

// SoundFile is a regular file.
func SoundFile(content string) *File {
	return &File{Size: uint64(len(content)), Mode: 0o100644, Xattrs: Xattrs(), Padding: make([]byte, 4),
		Deflated: Deflate(content), Content: []byte(content)}
}

// SoundSymlink is a symlink.
func SoundSymlink(target string) *File {
	return &File{Mode: 0o120777, Target: target, Xattrs: Xattrs(), Padding: make([]byte, 4)}
}

// Deflate compresses as zlib does for an empty file, and as it might for others.
func Deflate(content string) []byte {
	if content == "" {
		return []byte{3, 0}
	}
	var b bytes.Buffer
	w, _ := flate.NewWriter(&b, 6) // a bytes.Buffer takes all
	_, _ = io.WriteString(w, content)
	_ = w.Close()
	return b.Bytes()
}

// DeflateZeros compresses mib MiB of zeros, in 1/1000 of the room.
func DeflateZeros(mib int) []byte {
	var b bytes.Buffer
	w, _ := flate.NewWriter(&b, 6) // a bytes.Buffer takes all
	_, _ = w.Write(make([]byte, 1<<20))
	_ = w.Flush() // ends in whole bytes, so that copies can follow each other
	last := []byte{3, 0}
	return append(bytes.Repeat(b.Bytes(), mib), last...)
}

// FullHeader is the (tuuuusa(ayay)) made of the parts.
func (f *File) FullHeader() []byte {
	return Tuple(append([]Value{U64(f.Size)}, f.plain()...)...).Bytes
}

func (f *File) plain() []Value {
	return []Value{U32(f.UID), U32(f.GID), U32(f.Mode), U32(f.Rdev), Str(f.Target), f.Xattrs}
}

// Object is the object under the checksum that its parts, without size, padding,
// Header and Deflated, have.
func (f *File) Object() Object {
	header := f.Header
	if header == nil {
		header = f.FullHeader()
	}
	b := binary.BigEndian.AppendUint32(nil, uint32(len(header)))
	b = append(append(append(b, f.Padding...), header...), f.Deflated...)
	return Object{"filez", f.sum(), b}
}

func (f *File) sum() (sum [32]byte) {
	plain := Tuple(f.plain()...).Bytes
	h := sha256.New()
	h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(plain))))
	h.Write(make([]byte, 4))
	h.Write(plain)
	h.Write(f.Content)
	h.Sum(sum[:0])
	return sum
}

// CommitOf makes a commit that needs o, with salt as its subject: of a filez or
// dirmeta, a tree that holds it; of a dirtree, with that as root. A commit or
// commitmeta stands for itself. It returns the commit's checksum and all that
// the commit needs besides o.
func CommitOf(o Object, salt string) (commit [32]byte, others []Object) {
	tree, meta := SoundTree(), SoundDirMeta()
	others = []Object{SoundFile("sound").Object(), emptyTree(), meta}
	switch o.Type {
	case "filez":
		tree = Metadata("dirtree", Tree([]Value{FileNamed("a"), Entry("file", o.Sum[:])}, nil))
	case "dirtree":
		tree = o
	case "dirmeta":
		empty := emptyTree()
		tree = Metadata("dirtree", Tree([]Value{FileNamed("a")}, []Value{Entry("dir", empty.Sum[:], o.Sum[:])}))
	}
	if o.Type != "dirtree" {
		others = append(others, tree)
	}
	if o.Type == "commit" {
		return o.Sum, others
	}
	c := commitOver(tree, meta, salt)
	return c.Sum, append(others, c)
}

func commitOver(tree, meta Object, salt string) Object {
	c := SoundCommit()
	c.Tree, c.DirMeta, c.Subject = tree.Sum[:], meta.Sum[:], salt
	return Metadata("commit", c.Bytes())
}
