// SPDX-License-Identifier: AGPL-3.0-or-later

// Command uncompress writes the files of an archive repository again, with
// content that is stored and not compressed. That changes no checksum. A test's
// repository then has objects that are large on the wire and small in a
// compressed archive.
package main

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: uncompress REPO")
		os.Exit(2)
	}
	err := filepath.WalkDir(filepath.Join(os.Args[1], "objects"), func(path string, e fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".filez" {
			return err
		}
		return uncompress(path)
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "uncompress:", err)
		os.Exit(1)
	}
}

// uncompress writes one filez object again: the length of its header (big endian),
// 4 zero bytes, the header, raw deflate.
func uncompress(path string) error {
	old, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if len(old) < 8 || uint64(len(old)) < 8+uint64(binary.BigEndian.Uint32(old)) {
		return fmt.Errorf("%s is no filez object", path)
	}
	end := 8 + int(binary.BigEndian.Uint32(old))
	if end == len(old) {
		return nil // a symbolic link
	}
	content, err := io.ReadAll(flate.NewReader(bytes.NewReader(old[end:])))
	if err != nil {
		return fmt.Errorf("inflate %s: %w", path, err)
	}
	stored := bytes.NewBuffer(bytes.Clone(old[:end]))
	w, err := flate.NewWriter(stored, flate.NoCompression)
	if err == nil {
		_, err = w.Write(content)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return err
	}
	return os.WriteFile(path, stored.Bytes(), 0o644)
}
