// SPDX-License-Identifier: AGPL-3.0-or-later

package site

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
)

// SmallTree makes n files of random bytes, some 20 kB each, in folders of 25.
func SmallTree(dir string, n int, seed string) error {
	random := rand.NewChaCha8(sha256.Sum256([]byte(seed)))
	for i := range n {
		path := filepath.Join(dir, fmt.Sprintf("d%d", i/25), fmt.Sprintf("f%d", i))
		if err := WriteFile(path, RandomBytes(random, 20_000+i), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// RandomBytes do not compress.
func RandomBytes(random *rand.ChaCha8, n int) []byte {
	b := make([]byte, n)
	random.Read(b)
	return b
}

// WriteFile makes folders as needed, with modes that no umask changes.
func WriteFile(path string, content []byte, mode fs.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.Chmod(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(path, content, mode); err != nil {
		return err
	}
	return os.Chmod(path, mode)
}
