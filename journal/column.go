// SPDX-License-Identifier: AGPL-3.0-or-later

package journal

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"go.etcd.io/bbolt"
)

// chunkLen is how many objects share one value of a column. Few enough that a
// status which changes rewrites little, many enough that keys cost nothing.
const chunkLen = 240

// column is a bucket that holds a value of fixed width for each object of a
// set, in chunks, within one transaction. It grows at its end only.
type column struct {
	bucket *bbolt.Bucket
	width  int
	chunks map[uint32][]byte   // those looked at, by number
	dirty  map[uint32]struct{} // those changed, which are copies
}

func openColumn(set *bbolt.Bucket, name []byte, width int) (*column, error) {
	b := set.Bucket(name)
	if b == nil {
		return nil, fmt.Errorf("bucket %s is not there", name)
	}
	b.FillPercent = 1 // it is written in order
	return &column{bucket: b, width: width, chunks: map[uint32][]byte{}, dirty: map[uint32]struct{}{}}, nil
}

func chunkKey(number uint32) []byte { return binary.BigEndian.AppendUint32(nil, number) }

func (c *column) chunk(number uint32) []byte {
	chunk, ok := c.chunks[number]
	if !ok {
		chunk = c.bucket.Get(chunkKey(number))
		c.chunks[number] = chunk
	}
	return chunk
}

// at gives the value of object ord, or nil if the column ends before. It is
// valid until the transaction ends and must not be changed.
func (c *column) at(ord uint32) []byte {
	chunk := c.chunk(ord / chunkLen)
	from := int(ord%chunkLen) * c.width
	if from+c.width > len(chunk) {
		return nil
	}
	return chunk[from : from+c.width]
}

// put sets the value of object ord, which the column holds, or which is the
// next after its end.
func (c *column) put(ord uint32, value []byte) {
	number := ord / chunkLen
	chunk := c.chunk(number)
	if _, dirty := c.dirty[number]; !dirty {
		chunk = slices.Clone(chunk)
		c.dirty[number] = struct{}{}
	}
	if from := int(ord%chunkLen) * c.width; from < len(chunk) {
		copy(chunk[from:], value[:c.width])
	} else {
		chunk = append(chunk, value[:c.width]...)
	}
	c.chunks[number] = chunk
}

// flush writes what was put.
func (c *column) flush() error {
	for _, number := range slices.Sorted(maps.Keys(c.dirty)) {
		if err := c.bucket.Put(chunkKey(number), c.chunks[number]); err != nil {
			return err
		}
	}
	return nil
}
