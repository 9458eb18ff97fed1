// SPDX-License-Identifier: AGPL-3.0-or-later

package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

// The form of a bbolt file, in the byte order of the machine.
const (
	pageHeader  = 16 // number, flags, count, overflow
	elementLen  = 16 // of both kinds of pages
	branchPage  = 1
	leafPage    = 2
	bucketFlag  = 1  // of an element of a leaf
	bucketLen   = 16 // root, sequence; an inline bucket's page follows
	metaLen     = 64
	metaMagic   = 0xED0CDAED
	leastPage   = 1 << 10
	largestPage = 64 << 10
)

var native = binary.NativeEndian

// checkPages reads every page that a journal's tree leads to, and reports the
// first that cannot be one. bbolt relies on its pages: on damaged ones it panics,
// also in goroutines of its own, where nobody can recover. A file that another
// process holds is left to bbolt, which says so.
func checkPages(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // it was read only
	if unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) != nil {
		return nil
	}
	return checkTree(f)
}

// checkTree is checkPages for whoever knows that nobody writes. A page that the
// disk cannot give is a fault in memory.
func checkTree(f *os.File) (err error) {
	st, err := f.Stat()
	if err != nil || st.Size() == 0 {
		return err
	}
	file, err := unix.Mmap(int(f.Fd()), 0, int(st.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("map it: %w", err)
	}
	defer func() { err = errors.Join(err, unix.Munmap(file)) }()
	defer guard(&err, func(said any) error { return fmt.Errorf("%v", said) })()
	t, root, err := openTree(file)
	if err != nil {
		return err
	}
	return t.page(root)
}

// guard makes an error of a panic, also over memory that cannot be read, until the
// returned function is called; met makes it of what the panic says.
func guard(err *error, met func(said any) error) (done func()) {
	before := debug.SetPanicOnFault(true)
	return func() {
		debug.SetPanicOnFault(before)
		if said := recover(); said != nil {
			*err = met(said)
		}
	}
}

// tree is what is read of a file.
type tree struct {
	file  []byte
	size  uint64 // of a page
	pages uint64 // numbers of pages are below this
	seen  []bool
}

// openTree reads the newer of the two meta pages.
func openTree(file []byte) (t *tree, root uint64, err error) {
	t = &tree{file: file}
	var newest uint64
	for size := leastPage; size <= largestPage; size *= 2 {
		for _, at := range []int{0, size} {
			if at+pageHeader+metaLen > len(file) {
				continue
			}
			m := file[at+pageHeader:][:metaLen]
			if txid := native.Uint64(m[48:]); isMeta(m, size) && (t.size == 0 || txid > newest) {
				newest, root = txid, native.Uint64(m[16:])
				t.size, t.pages = uint64(size), native.Uint64(m[40:])
			}
		}
	}
	if t.size == 0 {
		return nil, 0, errors.New("neither of its meta pages is one")
	}
	if most := uint64(len(file)) / t.size; t.pages > most {
		return nil, 0, fmt.Errorf("it has %d pages, and should have %d", most, t.pages)
	}
	t.seen = make([]bool, t.pages)
	return t, root, nil
}

func isMeta(m []byte, size int) bool {
	sum := fnv.New64a()
	_, _ = sum.Write(m[:56]) // a hash takes everything
	return native.Uint32(m) == metaMagic && native.Uint32(m[8:]) == uint32(size) && native.Uint64(m[56:]) == sum.Sum64()
}

// page checks a page and all that it leads to.
func (t *tree) page(number uint64) error {
	b, err := t.read(number)
	if err == nil {
		err = t.content(b)
	}
	if err != nil {
		return fmt.Errorf("page %d: %w", number, err)
	}
	return nil
}

// read reads a page with its overflow.
func (t *tree) read(number uint64) ([]byte, error) {
	if number < 2 || number >= t.pages {
		return nil, errors.New("there is no such page")
	}
	b := t.file[number*t.size:]
	more := uint64(native.Uint32(b[12:]))
	if native.Uint64(b) != number || number+more >= t.pages {
		return nil, errors.New("its header is damaged")
	}
	for n := number; n <= number+more; n++ {
		if t.seen[n] {
			return nil, errors.New("two pages lead to it")
		}
		t.seen[n] = true
	}
	return b[:(more+1)*t.size], nil
}

// content checks the elements of a page, or of an inline bucket's.
func (t *tree) content(b []byte) error {
	flags, count := native.Uint16(b[8:]), uint64(native.Uint16(b[10:]))
	if flags != branchPage && flags != leafPage || flags == branchPage && count == 0 || pageHeader+count*elementLen > uint64(len(b)) {
		return errors.New("its header is damaged")
	}
	var last []byte
	for i := range count {
		at := pageHeader + i*elementLen
		key, value, err := element(b, at, flags)
		if err != nil {
			return fmt.Errorf("element %d: %w", i, err)
		}
		if i > 0 && bytes.Compare(last, key) >= 0 {
			return fmt.Errorf("element %d is not in order", i)
		}
		last = key
		if err := t.below(b[at:], value, flags); err != nil {
			return err
		}
	}
	return nil
}

// element gives the key and the value of the element whose header is at a place.
func element(b []byte, at uint64, flags uint16) (key, value []byte, err error) {
	e := b[at:]
	pos, keyLen, valueLen := uint64(native.Uint32(e)), uint64(native.Uint32(e[4:])), uint64(0)
	if flags == leafPage {
		pos, keyLen, valueLen = uint64(native.Uint32(e[4:])), uint64(native.Uint32(e[8:])), uint64(native.Uint32(e[12:]))
	}
	if pos+keyLen+valueLen > uint64(len(e)) {
		return nil, nil, errors.New("it goes beyond its page")
	}
	return e[pos : pos+keyLen], e[pos+keyLen : pos+keyLen+valueLen], nil
}

// below checks what an element leads to.
func (t *tree) below(e, value []byte, flags uint16) error {
	switch {
	case flags == branchPage:
		return t.page(native.Uint64(e[8:]))
	case native.Uint32(e)&bucketFlag == 0:
		return nil
	case len(value) < bucketLen:
		return errors.New("a bucket in it is damaged")
	}
	if root := native.Uint64(value); root != 0 {
		return t.page(root)
	}
	if len(value) < bucketLen+pageHeader {
		return errors.New("a bucket in it is damaged")
	}
	return t.content(value[bucketLen:])
}
