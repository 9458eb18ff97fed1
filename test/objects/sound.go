// SPDX-License-Identifier: AGPL-3.0-or-later

package objects

import "strings"

// Sound is an object at the edge of what is allowed, which a server must take.
type Sound struct {
	Case string
	Object
}

// Sounds are the cases; no two have the same name.
func Sounds() []Sound {
	return append(soundFiles(), soundMetadata()...)
}

func soundFiles() []Sound {
	var list []Sound
	file := func(name string, f *File, change func(f *File)) {
		change(f)
		list = append(list, Sound{"file: " + name, f.Object()})
	}
	file("empty", SoundFile(""), func(*File) {})
	file("large", SoundFile(strings.Repeat("large ", 1<<20)), func(*File) {})
	file("stored block", SoundFile("stored"), func(f *File) { f.Deflated = append([]byte{1, 6, 0, 0xf9, 0xff}, f.Content...) })
	file("empty last block", SoundFile("block"), func(f *File) {
		f.Deflated = append(append([]byte{0, 5, 0, 0xfa, 0xff}, f.Content...), 3, 0)
	})
	file("all mode bits", SoundFile("x"), func(f *File) { f.Mode = 0o107777 })
	file("no mode bits", SoundFile("x"), func(f *File) { f.Mode = 0o100000 })
	file("owner", SoundFile("x"), func(f *File) { f.UID, f.GID = 1<<32-2, 12345 })
	file("xattrs sorted", SoundFile("x"), func(f *File) { f.Xattrs = Xattrs("user.a\x00", "1", "user.b\x00", "\x00\xff") })
	file("xattrs unsorted", SoundFile("x"), func(f *File) { f.Xattrs = Xattrs("user.b\x00", "", "user.a\x00", "1") })
	file("header of two-byte offsets", SoundFile("x"), func(f *File) { f.Xattrs = Xattrs("user.a\x00", strings.Repeat("v", 400)) })
	file("symlink", SoundSymlink("../a/b"), func(*File) {})
	file("symlink to UTF-8", SoundSymlink("größe/漢"), func(*File) {})
	file("symlink, longest", SoundSymlink(strings.Repeat("a", 4095)), func(*File) {})
	file("symlink with xattr", SoundSymlink("x"), func(f *File) { f.Xattrs = Xattrs("security.selinux\x00", "label\x00") })
	return list
}

func soundMetadata() []Sound {
	var list []Sound
	meta := func(name, typ string, b []byte) {
		list = append(list, Sound{typ + ": " + name, Metadata(typ, b)})
	}
	commit := func(name string, change func(c *Commit)) {
		c := SoundCommit()
		c.Subject = name
		change(c)
		meta(name, "commit", c.Bytes())
	}
	commit("plain", func(*Commit) {})
	commit("no subject", func(c *Commit) { c.Subject = "" })
	commit("bindings", func(c *Commit) {
		c.Meta = Dict(Item("ostree.ref-binding", "as", Array(Str("test"))), Item("version", "s", Str("1.0")))
	})
	commit("keys unsorted and twice", func(c *Commit) {
		c.Meta = Dict(Item("z", "t", U64(1)), Item("a", "v", Variant("u", U32(2))), Item("a", "as", Array()))
	})
	commit("deep metadata", func(c *Commit) { c.Meta = Dict(Item("v", "v", DeepVariant(40))) })

	meta("empty", "dirtree", Tree(nil, nil))
	meta("names", "dirtree", Files("-", "...", "A", "a", "a b", "b\n", "größe", "漢"))
	meta("long name", "dirtree", Files(strings.Repeat("n", 255)))
	meta("same content", "dirtree", Tree([]Value{FileNamed("a"), FileNamed("b")}, []Value{DirNamed("c"), DirNamed("d")}))
	meta("between", "dirtree", Tree([]Value{FileNamed("a"), FileNamed("c")}, []Value{DirNamed("b"), DirNamed("d")}))
	meta("all mode bits", "dirmeta", DirMeta(0o47777))
	meta("no mode bits", "dirmeta", DirMeta(0o40000))
	meta("xattrs unsorted", "dirmeta", DirMeta(0o40755, "user.b\x00", "1", "user.a\x00", ""))
	return list
}
