// SPDX-License-Identifier: AGPL-3.0-or-later

package ostree

import (
	"bytes"
	"errors"
	"reflect"
	"testing"
	"testing/iotest"

	"github.com/lirios/ostree-upload/internal/gvariant"
	"github.com/lirios/ostree-upload/test/must"
	build "github.com/lirios/ostree-upload/test/objects"
)

// seed adds the objects of that type of a real repository, and what the builder
// makes.
func seed(f *testing.F, typ Type, more ...[]byte) {
	r := sharedRepo(f)
	for _, n := range objects(f, r) {
		if n.Type != typ {
			continue
		}
		if b := load(f, r, n); len(b) < 10_000 {
			f.Add(b)
		}
	}
	for _, b := range more {
		f.Add(b)
	}
}

// fuzzVerifier is reused, as a server's worker does, so that what one object
// leaves behind meets the next. A fuzz target runs on one goroutine.
var fuzzVerifier = NewVerifier(1 << 24)

// agree checks what must hold for any bytes: the verifier and the parser agree,
// however the bytes come, and a refusal is a *BadObjectError.
func agree(t *testing.T, n Name, b []byte, parsed error) {
	t.Helper()
	_, err := fuzzVerifier.Verify(n, bytes.NewReader(b))
	_, half := fuzzVerifier.Verify(n, iotest.HalfReader(bytes.NewReader(b)))
	if (err == nil) != (parsed == nil) || (half == nil) != (parsed == nil) {
		t.Errorf("parser: %v, verifier: %v, in pieces: %v", parsed, err, half)
	}
	var bad *BadObjectError
	if err != nil && !errors.As(err, &bad) {
		t.Errorf("not a BadObjectError: %v", err)
	}
}

func FuzzName(f *testing.F) {
	f.Add(hex64 + ".filez")
	f.Add(hex64 + ".commitmeta")
	f.Fuzz(func(t *testing.T, s string) {
		n, err := ParseName(s)
		if err == nil && (n.String() != s || !n.Type.Valid()) {
			t.Errorf("%q became %q", s, n)
		}
		if err := ValidateRef(s); err == nil && (s[0] == '/' || s[0] == '.') {
			t.Errorf("%q is no ref", s)
		}
	})
}

func FuzzCommit(f *testing.F) {
	c := build.SoundCommit()
	c.Parent = bytes.Repeat([]byte{9}, 32)
	c.Meta = build.Dict(build.Item("ostree.ref-binding", "as", build.Array(build.Str("a"))), build.Item("v", "v", build.DeepVariant(3)), build.Item("m", "a(mstb)", build.Bytes()))
	seed(f, CommitObject, build.SoundCommit().Bytes(), c.Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseCommit(b)
		agree(t, metaName(CommitObject, b), b, err)
		if err != nil {
			return
		}
		again, err := ParseCommit(bytes.Clone(b))
		if err != nil || !reflect.DeepEqual(c, again) {
			t.Errorf("%v became %v, %v", c, again, err)
		}
	})
}

func FuzzDirTree(f *testing.F) {
	seed(f, DirTree, build.Tree([]build.Value{build.FileNamed("a")}, []build.Value{build.DirNamed("b")}))
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := parseDirTree(b)
		agree(t, metaName(DirTree, b), b, err)
		if err != nil {
			return
		}
		var files, dirs []build.Value
		for i := range v.files.Len() {
			m := v.file(i)
			files = append(files, build.Entry(gvariant.String(m[0]), m[1]))
		}
		for i := range v.dirs.Len() {
			m := v.dir(i)
			dirs = append(dirs, build.Entry(gvariant.String(m[0]), m[1], m[2]))
		}
		if got := build.Tree(files, dirs); !bytes.Equal(got, b) {
			t.Errorf("%x is written as %x", b, got)
		}
		children := 0
		err = Children(metaName(DirTree, b), b, func(Name) error { children++; return nil })
		if err != nil || children != len(files)+2*len(dirs) {
			t.Errorf("%d children: %v", children, err)
		}
	})
}

func FuzzDirMeta(f *testing.F) {
	seed(f, DirMeta)
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseDirMeta(b)
		agree(t, metaName(DirMeta, b), b, err)
		if err != nil {
			return
		}
		got := build.Tuple(build.U32(m.UID), build.U32(m.GID), build.U32(m.Mode), build.Raw(writeXattrs(m.Xattrs))).Bytes
		if !bytes.Equal(got, b) {
			t.Errorf("%x is written as %x", b, got)
		}
	})
}

func FuzzCommitMeta(f *testing.F) {
	seed(f, CommitMeta, build.Dict(build.Item("ostree.gpgsigs", "aay", sigs("a", "b")), build.Item("x", "(sv)", build.Bytes())).Bytes)
	f.Fuzz(func(t *testing.T, b []byte) {
		err := ParseCommitMeta(b)
		agree(t, Name{Type: CommitMeta}, b, err)
		ours := build.Dict(build.Item("ostree.gpgsigs", "aay", sigs("ours"))).Bytes
		merged, mergeErr := MergeCommitMeta(ours, b)
		if (mergeErr == nil) != (err == nil) {
			t.Errorf("parser: %v, merge: %v", err, mergeErr)
		}
		if err != nil {
			return
		}
		if entries := gvariant.Dict(b); !bytes.Equal(gvariant.WriteDict(entries), b) {
			t.Errorf("%x is written as %x", b, gvariant.WriteDict(entries))
		}
		if err := ParseCommitMeta(merged); err != nil {
			t.Errorf("merged: %v", err)
		}
		if again, err := MergeCommitMeta(merged, b); err != nil || !bytes.Equal(again, merged) {
			t.Errorf("merging twice gives %x after %x: %v", again, merged, err)
		}
	})
}

func FuzzFilez(f *testing.F) {
	seed(f, File)
	f.Fuzz(func(t *testing.T, b []byte) {
		_, err := fuzzVerifier.Verify(Name{Type: File}, bytes.NewReader(b))
		var bad *BadObjectError
		if !errors.As(err, &bad) {
			t.Fatalf("got %v", err)
		}
		// The checksum in the reason, if it came that far, is the one to accept.
		c, err := ParseChecksum(bad.Reason[max(0, len(bad.Reason)-64):])
		if err != nil {
			return
		}
		agree(t, Name{c, File}, b, nil)
		if got := appendFilezHeader(nil, headerOf(t, b)); !bytes.HasPrefix(b, got) {
			t.Errorf("%x is written as %x", b, got)
		}
		if len(b) > 0 {
			agree(t, Name{c, File}, append(bytes.Clone(b), 0), errors.New("a byte follows"))
		}
	})
}

func headerOf(t *testing.T, b []byte) *FileHeader {
	t.Helper()
	h, err := parseFileHeader(b[8 : 8+be32(b)])
	must.OK(t, err)
	return &h
}
