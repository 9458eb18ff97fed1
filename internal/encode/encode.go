// SPDX-License-Identifier: AGPL-3.0-or-later

// Package encode is packs of the second kind: how objects travel in fewer bytes than
// they have in archive form. docs/protocol.md describes the same for people.
//
//   - A pack is Magic and then one zstd stream to its end. Inflated, that is frames.
//   - What a Reader holds is the window of the stream, which the caller has looked at
//     before with Window, and does not grow with what a pack claims.
//   - Of a pack that breaks off, each frame that is whole can be read.
//
// Sizes are bytes. A Reader and a Writer serve one goroutine at a time, and are made
// to be used again.
package encode

import (
	"errors"

	"github.com/lirios/ostree-upload/internal/ostree"
)

// Magic starts every pack of the second kind.
const Magic = "OSTPACK2"

// Encodings of a frame, and what GET /api/v1/info calls them. A pack of the first kind
// has only Archive, under the same number.
const (
	Archive = 0 // the object's bytes as an archive repository stores them
	Content = 1 // a filez header and the content
	Delta   = 2 // what makes the content from that of another object
)

// Names of encodings in the server's info.
const (
	NameArchive = "archive"
	NameZstd    = "zstd"  // packs of the second kind, with Archive and Content
	NameDelta   = "delta" // with Delta, too
)

// Limits of a pack.
const (
	// MaxWindow is the largest window of a stream.
	MaxWindow = 128 << 20
	// SmallWindow is the largest that a server decodes without waiting for others.
	SmallWindow = 8 << 20
	// MaxInflated is how many bytes a stream may have, inflated.
	MaxInflated = 1 << 30
	// MaxFrames is how many frames a pack may have.
	MaxFrames = 1 << 16
	// MaxMade is how many bytes of content the frames of a pack may make in all:
	// a few bytes of a difference make as many as its source has. It is also how many
	// bytes the sources of its differences may have: each is read for each difference.
	MaxMade = 16 << 30
	// MaxMetas is how many bytes of detached metadata a pack may bring: as many as if
	// they were not compressed.
	MaxMetas = 16 << 20
	// MaxSource is the largest content that a difference can be of, or make.
	MaxSource = 1 << 30
)

// What is wrong with a pack.
var (
	ErrNoPack     = errors.New("no pack: it does not begin with " + Magic)
	ErrWindow     = errors.New("its zstd stream needs a window of more than 128 MiB")
	ErrDictionary = errors.New("its zstd stream needs a dictionary")
	ErrInflated   = errors.New("its zstd stream has more than 1 GiB inflated")
	ErrFrames     = errors.New("it has more than 65536 frames")
	ErrMade       = errors.New("its frames make more than 16 GiB of content")
	ErrSources    = errors.New("the sources of its differences have more than 16 GiB")
	ErrMetas      = errors.New("it has more than 16 MiB of detached metadata")
	errDamaged    = errors.New("its zstd stream is damaged")
	errCut        = errors.New("it ends within a frame")
)

// A Frame is what stands before the payload of a frame.
type Frame struct {
	Name     ostree.Name
	Encoding byte
	Length   uint64 // of the payload
}

// A Source is the content that a difference is of.
type Source struct {
	Checksum ostree.Checksum // of a file
	Commit   ostree.Checksum // in which that is
	Size     int64
}
