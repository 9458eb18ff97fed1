// SPDX-License-Identifier: AGPL-3.0-or-later

package objects

import (
	"bytes"
	"strings"
)

func commitCases() []Hostile {
	binding := Item("ostree.ref-binding", "as", Array(Str("a")))
	collection := Item("ostree.collection-binding", "s", Str("org.example"))
	sum := func(n int) []byte { return bytes.Repeat([]byte{1}, n) }
	var list []Hostile
	for _, c := range []struct {
		name   string
		spoil  func(c *Commit)
		reason string
	}{
		{"parent short", func(c *Commit) { c.Parent = sum(31) }, "parent's checksum has 31"},
		{"parent long", func(c *Commit) { c.Parent = sum(33) }, "parent's checksum has 33"},
		{"parent in hex", func(c *Commit) { c.Parent = []byte(strings.Repeat("ab", 32)) }, "parent's checksum has 64"},
		{"no tree", func(c *Commit) { c.Tree = nil }, "root dirtree's checksum has 0"},
		{"tree short", func(c *Commit) { c.Tree = c.Tree[:31] }, "root dirtree's checksum has 31"},
		{"no dirmeta", func(c *Commit) { c.DirMeta = nil }, "root dirmeta's checksum has 0"},
		{"dirmeta long", func(c *Commit) { c.DirMeta = sum(40) }, "root dirmeta's checksum has 40"},
		{"related", func(c *Commit) { c.Related = Array(Entry("x", []byte{1})) }, "related object's checksum has 1"},
		{"subject not UTF-8", func(c *Commit) { c.Subject = "a\xff" }, notNormal},
		{"subject with NUL", func(c *Commit) { c.Subject = "a\x00b" }, notNormal},
		{"empty key", func(c *Commit) { c.Meta = Dict(Item("", "s", Str(""))) }, "empty key"},
		{"key not UTF-8", func(c *Commit) { c.Meta = Dict(Item("\xfe", "s", Str(""))) }, notNormal},
		{"ref binding of another type", func(c *Commit) { c.Meta = Dict(Item("ostree.ref-binding", "s", Str("a"))) }, "ostree.ref-binding"},
		{"ref binding twice", func(c *Commit) { c.Meta = Dict(binding, binding) }, "ostree.ref-binding"},
		{"collection binding of another type", func(c *Commit) { c.Meta = Dict(Item("ostree.collection-binding", "ay", Bytes(1))) }, "ostree.collection-binding"},
		{"collection binding twice", func(c *Commit) { c.Meta = Dict(collection, collection) }, "ostree.collection-binding"},
		{"variant of no type", func(c *Commit) { c.Meta = Dict(Item("a", "z", Bytes(1))) }, notNormal},
		{"variant of two types", func(c *Commit) { c.Meta = Dict(Item("a", "yy", Bytes(1, 1))) }, notNormal},
		{"variant of the wrong size", func(c *Commit) { c.Meta = Dict(Item("a", "u", Bytes(1, 2, 3))) }, notNormal},
		{"variant's boolean", func(c *Commit) { c.Meta = Dict(Item("a", "b", Bytes(2))) }, notNormal},
		{"variant nested deep", func(c *Commit) { c.Meta = Dict(Item("a", "v", DeepVariant(80))) }, notNormal},
		{"variant of a deep type", func(c *Commit) { c.Meta = Dict(Item("a", strings.Repeat("a", 80)+"y", Bytes())) }, notNormal},
		{"metadata's offset outside", func(c *Commit) { c.Meta.Bytes = []byte{9} }, notNormal},
	} {
		commit := SoundCommit()
		c.spoil(commit)
		list = append(list, Hostile{Case: "commit: " + c.name, Object: Metadata("commit", commit.Bytes()), Reason: c.reason})
	}
	sound := SoundCommit()
	sound.Meta = Dict(Item("key", "s", Str("v")))
	padding := bytes.Replace(sound.Bytes(), []byte("key\x00\x00"), []byte("key\x00\x01"), 1)
	return append(list,
		Hostile{"commit: zeros", Metadata("commit", make([]byte, 100)), nil, notNormal},
		Hostile{"commit: a tail", Metadata("commit", append(sound.Bytes(), 0)), nil, notNormal},
		Hostile{"commit: cut", Metadata("commit", sound.Bytes()[:80]), nil, notNormal},
		Hostile{"commit: padding", Metadata("commit", padding), nil, notNormal},
	)
}

func treeCases() []Hostile {
	file, meta, tree := SoundFile("sound").Object(), SoundDirMeta(), emptyTree()
	both := Tree([]Value{FileNamed("a"), FileNamed("c")}, []Value{DirNamed("b"), DirNamed("c")})
	var list []Hostile
	for _, c := range []struct {
		name   string
		b      []byte
		reason string
	}{
		{"one zero too many", []byte{0, 0}, notNormal},
		{"a tail", append(Files("a"), 0), notNormal},
		{"cut", Files("a")[:40], notNormal},
		{"unsorted", Files("b", "a"), `"a" is not in sorted order`},
		{"twice", Files("a", "a"), `duplicate name "a"`},
		{"sorted as signed bytes", Files("é", "z"), "not in sorted order"},
		{"sorted without case", Files("a", "B"), "not in sorted order"},
		{"empty name", Files(""), "name is empty"},
		{"dot", Files("."), "is not the name of a file"},
		{"dot dot", Files(".."), "is not the name of a file"},
		{"slash", Files("a/b"), "slash"},
		{"absolute", Files("/etc"), "slash"},
		{"NUL", Files("a\x00b"), notNormal},
		{"not UTF-8", Files("a\xff"), notNormal},
		{"surrogate", Files("\xed\xa0\x80"), notNormal},
		{"overlong", Files("\xc0\xaf"), notNormal},
		{"directory's empty name", Dirs(""), "name is empty"},
		{"directory dot", Dirs("."), "is not the name of a file"},
		{"directory dot dot", Dirs(".."), "is not the name of a file"},
		{"directory with slash", Dirs("../../x"), "slash"},
		{"directories unsorted", Dirs("b", "a"), "sorted order"},
		{"directory twice", Dirs("a", "a"), `duplicate name "a"`},
		{"file and directory", both, "belongs to a file and to a directory"},
		{"checksum short", Tree([]Value{Entry("a", file.Sum[:20])}, nil), `checksum of "a" has 20`},
		{"checksum missing", Tree([]Value{Entry("a", nil)}, nil), `checksum of "a" has 0`},
		{"checksum long", Tree([]Value{Entry("a", append(file.Sum[:], 0))}, nil), `checksum of "a" has 33`},
		{"directory's dirmeta missing", Tree(nil, []Value{Entry("a", tree.Sum[:], nil)}), `checksum of "a" has 0`},
		{"directory's dirtree missing", Tree(nil, []Value{Entry("a", nil, meta.Sum[:])}), `checksum of "a" has 0`},
	} {
		list = append(list, Hostile{Case: "dirtree: " + c.name, Object: Metadata("dirtree", c.b), Reason: c.reason})
	}
	return list
}

func dirMetaCases() []Hostile {
	var list []Hostile
	for _, c := range []struct {
		name   string
		b      []byte
		reason string
	}{
		{"zeros", make([]byte, 12), "not a directory's"},
		{"cut", DirMeta(0o40755)[:9], notNormal},
		{"a tail", append(DirMeta(0o40755), 0), notNormal},
		{"a file's mode", DirMeta(0o100644), "not a directory's"},
		{"a symlink's mode", DirMeta(0o120777), "not a directory's"},
		{"no file type", DirMeta(0o755), "not a directory's"},
		{"mode bits", DirMeta(0o40755 | 1<<17), "not a directory's"},
		{"mode in little endian", DirMeta(0xed410000), "not a directory's"},
		{"xattr twice", DirMeta(0o40755, "a\x00", "", "a\x00", ""), `duplicate xattr "a"`},
		{"xattr without NUL", DirMeta(0o40755, "a", ""), onlyNUL},
		{"xattr with two NULs", DirMeta(0o40755, "a\x00\x00", ""), onlyNUL},
		{"xattr of nothing", DirMeta(0o40755, "", ""), onlyNUL},
		{"xattr without a name", DirMeta(0o40755, "\x00", "1"), "name is empty"},
	} {
		list = append(list, Hostile{Case: "dirmeta: " + c.name, Object: Metadata("dirmeta", c.b), Reason: c.reason})
	}
	return list
}

// maxCommitMeta is the most bytes of detached metadata.
const maxCommitMeta = 1 << 20

func commitMetaCases() []Hostile {
	good := Dict(Item("ostree.sign.dummy", "aay", Array(Bytes('s')))).Bytes
	var list []Hostile
	for _, c := range []struct {
		name   string
		b      []byte
		reason string
	}{
		{"garbage", []byte("garbage"), notNormal},
		{"a tail", append(bytes.Clone(good), 0), notNormal},
		{"cut", good[:len(good)-1], notNormal},
		{"empty key", Dict(Item("", "s", Str(""))).Bytes, "empty key"},
		{"key twice", Dict(Item("a", "s", Str("")), Item("a", "s", Str(""))).Bytes, `duplicate key "a"`},
		{"key not UTF-8", Dict(Item("\xff", "s", Str(""))).Bytes, notNormal},
		{"variant of no type", Dict(Item("a", "z", Bytes())).Bytes, notNormal},
		{"too large", Dict(Item("a", "ay", Raw(make([]byte, maxCommitMeta)))).Bytes, "larger than"},
	} {
		name := "commitmeta: " + c.name
		commit := commitOver(SoundTree(), SoundDirMeta(), name)
		list = append(list, Hostile{name, Object{"commitmeta", commit.Sum, c.b}, good, c.reason})
	}
	return list
}
