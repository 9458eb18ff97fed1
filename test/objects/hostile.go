// SPDX-License-Identifier: AGPL-3.0-or-later

package objects

import (
	"bytes"
	"strings"
)

// Limit is the size of content above which the cases expect a refusal: the
// default of max-object-size.
const Limit = 8 << 30

// Hostile is one small change to a sound object, which a server must refuse.
type Hostile struct {
	Case string // what is wrong
	Object
	Good   []byte // the bytes to go by the same name, nil if there are none
	Reason string // part of what the refusal says
}

// Hostiles are the cases. Their objects have the checksum that they go by,
// except where that is what is wrong with them; no two have the same name.
func Hostiles() []Hostile {
	var list []Hostile
	for i, c := range fileCases {
		f := SoundFile("hello")
		f.UID = uint32(i) // gives each its own checksum
		if c.symlink {
			f = SoundSymlink("there")
			f.UID = uint32(i)
		}
		good := f.Object()
		c.spoil(f)
		h := Hostile{Case: "file: " + c.name, Object: f.Object(), Reason: c.reason}
		if h.Sum == good.Sum {
			h.Good = good.Bytes
		}
		list = append(list, h)
	}
	list = append(list, commitCases()...)
	list = append(list, treeCases()...)
	list = append(list, dirMetaCases()...)
	list = append(list, commitMetaCases()...)
	return append(list, flippedCases()...)
}

type fileCase struct {
	name    string
	spoil   func(f *File)
	reason  string
	symlink bool
}

const (
	noType    = "neither a regular file's nor a symlink's"
	notNormal = "normal form"
	follows   = "follows its deflate stream"
	damaged   = "its deflate stream is"
	notEmpty  = "size says 0, but"
	otherSum  = "its content checksum is"
	onlyNUL   = "does not end in its only NUL"
)

var fileCases = []fileCase{
	{"size too small", func(f *File) { f.Size = 4 }, "size says 4, its content is longer", false},
	{"size too large", func(f *File) { f.Size = 6 }, "size says 6, content has 5 bytes", false},
	{"size zero", func(f *File) { f.Size = 0 }, notEmpty, false},
	{"size huge", func(f *File) { f.Size = 1 << 63 }, "size says 9223372036854775808", false},
	{"size over the limit", func(f *File) { f.Size = Limit + 1 }, "more than the 8589934592", false},
	{"size in little endian", func(f *File) { f.Size = 5 << 56 }, "size says 360287970189639680", false},
	{"bomb", func(f *File) { f.Deflated = Deflate(string(make([]byte, 8<<20))) }, "its content is longer", false},
	{"padding", func(f *File) { f.Padding = []byte{0, 0, 0, 1} }, "padding", false},
	{"trailing byte", func(f *File) { f.Deflated = append(f.Deflated, 0) }, follows, false},
	{"two streams", func(f *File) { f.Deflated = append(f.Deflated, f.Deflated...) }, follows, false},
	{"cut", func(f *File) { f.Deflated = f.Deflated[:len(f.Deflated)-1] }, damaged, false},
	{"no content", func(f *File) { f.Deflated = nil }, damaged, false},
	{"not compressed", func(f *File) { f.Deflated = f.Content }, damaged, false},
	{"zlib wrapper", func(f *File) { f.Deflated = append([]byte{0x78, 0x9c}, f.Deflated...) }, damaged, false},
	{"gzip wrapper", func(f *File) { f.Deflated = append([]byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3}, f.Deflated...) }, damaged, false},
	{"no last block", func(f *File) { f.Deflated = append([]byte{0, 5, 0, 0xfa, 0xff}, f.Content...) }, damaged, false},
	{"stored block's length", func(f *File) { f.Deflated = append([]byte{1, 5, 0, 0, 0}, f.Content...) }, damaged, false},
	{"match before the start", func(f *File) { f.Deflated = []byte{3, 2, 0} }, damaged, false},
	{"object within the object", func(f *File) { f.Deflated = f.Object().Bytes }, damaged, false},
	{"other content", func(f *File) { f.Deflated = Deflate("hallo") }, otherSum, false},
	{"other owner", func(f *File) { f.Header = spoiltHeader(f, func(f *File) { f.UID += 1000 }) }, otherSum, false},
	{"other mode", func(f *File) { f.Header = spoiltHeader(f, func(f *File) { f.Mode = 0o104755 }) }, otherSum, false},
	{"other xattrs", func(f *File) { f.Header = spoiltHeader(f, func(f *File) { f.Xattrs = Xattrs("user.a\x00", "1") }) }, otherSum, false},

	{"fifo", func(f *File) { f.Mode = 0o010644 }, noType, false},
	{"character device", func(f *File) { f.Mode = 0o020644 }, noType, false},
	{"block device", func(f *File) { f.Mode = 0o060644 }, noType, false},
	{"socket", func(f *File) { f.Mode = 0o140644 }, noType, false},
	{"directory", func(f *File) { f.Mode = 0o040755 }, noType, false},
	{"no file type", func(f *File) { f.Mode = 0o644 }, noType, false},
	{"mode bits", func(f *File) { f.Mode |= 1 << 20 }, noType, false},
	{"mode in little endian", func(f *File) { f.Mode = 0xa4810000 }, noType, false},
	{"rdev", func(f *File) { f.Rdev = 1 }, "rdev is 1", false},
	{"regular with a target", func(f *File) { f.Target = "x" }, "has a symlink target", false},

	{"xattr twice", func(f *File) { f.Xattrs = Xattrs("user.a\x00", "1", "user.b\x00", "", "user.a\x00", "2") }, "duplicate xattr", false},
	{"xattr without a name", func(f *File) { f.Xattrs = Xattrs("\x00", "1") }, "name is empty", false},
	{"xattr without NUL", func(f *File) { f.Xattrs = Xattrs("user.a", "1") }, onlyNUL, false},
	{"xattr with two NULs", func(f *File) { f.Xattrs = Xattrs("user\x00a\x00", "1") }, onlyNUL, false},
	{"xattr of nothing", func(f *File) { f.Xattrs = Xattrs("", "1") }, onlyNUL, false},
	{"xattr names huge", func(f *File) { f.Xattrs = Xattrs(strings.Repeat("a", 70_000)+"\x00", "") }, "65536 bytes", false},

	{"header empty", func(f *File) { f.Header = []byte{} }, notNormal, false},
	{"header cut", func(f *File) { f.Header = f.FullHeader()[:20] }, notNormal, false},
	{"header with a tail", func(f *File) { f.Header = append(f.FullHeader(), 1) }, notNormal, false},
	{"header with a wide offset", func(f *File) { f.Header = append(f.FullHeader(), 0) }, notNormal, false},
	{"header's offset outside", func(f *File) { h := f.FullHeader(); h[len(h)-1] = 0xff; f.Header = h }, notNormal, false},
	{"object cut in the header", func(f *File) { f.Header = []byte{}; f.Deflated = nil; f.Padding = nil }, "ends before its header", false},

	{"empty as a stored block", func(f *File) { empty(f); f.Deflated = []byte{1, 0, 0, 0xff, 0xff} }, notEmpty, false},
	{"empty with a tail", func(f *File) { empty(f); f.Deflated = []byte{3, 0, 0} }, follows, false},
	{"empty cut", func(f *File) { empty(f); f.Deflated = []byte{3} }, "cut short", false},
	{"empty without a stream", func(f *File) { empty(f); f.Deflated = nil }, "cut short", false},

	{"target not UTF-8", func(f *File) { f.Target = "a\xff" }, notNormal, true},
	{"target with NUL", func(f *File) { f.Target = "a\x00b" }, notNormal, true},
	{"target empty", func(f *File) { f.Target = "" }, "symlink has no target", true},
	{"target too long", func(f *File) { f.Target = strings.Repeat("a", 4096) }, "target has 4096 bytes", true},
	{"symlink with a size", func(f *File) { f.Size = 5 }, "symlink's size is 5", true},
	{"symlink with a stream", func(f *File) { f.Deflated = []byte{3, 0} }, "follows a symlink's header", true},
	{"symlink with rdev", func(f *File) { f.Rdev = 7 }, "rdev is 7", true},
	{"symlink's xattr twice", func(f *File) { f.Xattrs = Xattrs("a\x00", "", "a\x00", "") }, "duplicate xattr", true},
}

// spoiltHeader is the header of a file like f but for one thing.
func spoiltHeader(f *File, spoil func(f *File)) []byte {
	other := *f
	spoil(&other)
	return other.FullHeader()
}

func empty(f *File) { f.Size, f.Content = 0, nil }

// flippedCases are objects of which one bit is another than their name says, and
// one of each type that is whole but of another type.
func flippedCases() []Hostile {
	commit := SoundCommit()
	commit.Subject = "to be flipped"
	var list []Hostile
	for _, good := range []Object{
		Metadata("commit", commit.Bytes()),
		Metadata("dirtree", Files("be", "flipped")),
		Metadata("dirmeta", DirMeta(0o40711)),
	} {
		bad := bytes.Clone(good.Bytes)
		bad[len(bad)/2] ^= 1
		list = append(list, Hostile{"bit flipped: " + good.Type, Object{good.Type, good.Sum, bad}, good.Bytes, "its checksum is"})
	}
	file := SoundFile("of another type").Object()
	commit.Subject = "of another type"
	return append(list,
		Hostile{"other type: commit as dirtree", Metadata("dirtree", commit.Bytes()), nil, notNormal},
		Hostile{"other type: commit as dirmeta", Metadata("dirmeta", commit.Bytes()), nil, notNormal},
		Hostile{"other type: dirtree as commit", Metadata("commit", Files("of", "other type")), nil, notNormal},
		Hostile{"other type: dirtree as file", Object{"filez", Metadata("", Files("other")).Sum, Files("other")}, nil, "header"},
		Hostile{"other type: file as dirtree", Metadata("dirtree", file.Bytes), nil, notNormal},
		Hostile{"other type: dirmeta as dirtree", Metadata("dirtree", DirMeta(0o40700)), nil, notNormal},
	)
}
