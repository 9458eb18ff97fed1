// SPDX-License-Identifier: AGPL-3.0-or-later

package mirror

import (
	"crypto/sha256"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"

	"github.com/lirios/ostree-upload/internal/durable"
	"github.com/lirios/ostree-upload/internal/ostree"
)

// mostCached is how many bytes of metadata objects stay on the disk.
const mostCached = 1 << 30

// cache keeps metadata objects in files, laid out as in a repository. It syncs nothing:
// what is read has its checksum compared.
type cache struct {
	path string
	most int64

	mu   sync.Mutex // held by who adds or removes files
	size int64      // of all files
}

func openCache(path string, most int64) (*cache, error) {
	c := &cache{path: path, most: most}
	err := filepath.WalkDir(path, func(_ string, f fs.DirEntry, err error) error {
		if err != nil || f.IsDir() {
			return err
		}
		info, err := f.Info()
		if err == nil {
			c.size += info.Size()
		}
		return err
	})
	return c, err
}

func (c *cache) file(n ostree.Name) string { return filepath.Join(c.path, n.Path()) }

// get reads an object, nil if it is not there or not whole.
func (c *cache) get(n ostree.Name) []byte {
	b, err := os.ReadFile(c.file(n))
	if err != nil || n.Type != ostree.CommitMeta && sha256.Sum256(b) != n.Checksum {
		return nil // it is read from the bucket again
	}
	return b
}

// put keeps an object. Whoever reads it next may have to ask the bucket if that fails.
func (c *cache) put(n ostree.Name, b []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	path := c.file(n)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	if err := c.remove(path); err != nil { // it may be damaged, or older metadata of a commit
		return err
	}
	if err := durable.Write(path, b); err != nil {
		return err
	}
	return c.grown(int64(len(b)))
}

// link keeps an object that is in a file already.
func (c *cache) link(n ostree.Name, from string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	path := c.file(n)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	err := os.Link(from, path)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	return c.grown(info.Size())
}

func (c *cache) drop(n ostree.Name) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.remove(c.file(n))
}

// remove removes a file, if it is there.
func (c *cache) remove(path string) error {
	info, err := os.Lstat(path)
	if err == nil {
		err = os.Remove(path)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		c.size -= info.Size()
	}
	return err
}

// grown counts more bytes, and makes room if they are too many: folders of objects go, any
// of them, until a quarter is free.
func (c *cache) grown(by int64) error {
	if c.size += by; c.size <= c.most {
		return nil
	}
	folders, err := os.ReadDir(c.path)
	if err != nil {
		return err
	}
	rand.Shuffle(len(folders), func(i, j int) { folders[i], folders[j] = folders[j], folders[i] })
	for _, f := range folders {
		if c.size <= c.most/4*3 {
			break
		}
		if err := c.empty(filepath.Join(c.path, f.Name())); err != nil {
			return err
		}
	}
	return nil
}

func (c *cache) empty(folder string) error {
	files, err := os.ReadDir(folder)
	if err != nil {
		return err
	}
	for _, f := range files {
		if err := c.remove(filepath.Join(folder, f.Name())); err != nil {
			return err
		}
	}
	return nil
}
