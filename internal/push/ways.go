// SPDX-License-Identifier: AGPL-3.0-or-later

package push

import (
	"sync"

	"github.com/lirios/ostree-upload/internal/encode"
)

// A Way is what travelled in one encoding.
type Way struct {
	Objects int64 `json:"objects"`
	Bytes   int64 `json:"bytes"`   // of packs and uploads; of a pack with several encodings by what each had before compression
	Archive int64 `json:"archive"` // bytes that the objects have in the repository here, in archive form if that is its mode
	payload int64 // before compression
}

// ways are those of one pack, or of a push.
type ways map[string]Way

// add adds an object to a pack that is being made.
func (p *encoded) add(one item, encoding string, payload, archive int64) {
	if p.ways == nil {
		p.ways = ways{}
	}
	w := p.ways[encoding]
	w.Objects++
	w.payload += payload
	w.Archive += archive
	p.ways[encoding] = w
	p.names = append(p.names, one.name)
}

// settle divides the bytes of a pack among its encodings.
func (s ways) settle(bytes int64) {
	var all, given int64
	for _, w := range s {
		all += max(w.payload, 1)
	}
	last := ""
	for name, w := range s {
		w.Bytes = int64(float64(bytes) * float64(max(w.payload, 1)) / float64(all))
		given += w.Bytes
		s[name], last = w, name
	}
	w := s[last]
	w.Bytes += bytes - given
	s[last] = w
}

// sentWays counts what the server has of each encoding.
type sentWays struct {
	mu  sync.Mutex
	all ways
}

// add adds what was sent.
func (s *sentWays) add(sent ways) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = ways{}
	}
	for name, w := range sent {
		all := s.all[name]
		all.Objects += w.Objects
		all.Bytes += w.Bytes
		all.Archive += w.Archive
		s.all[name] = all
	}
}

// copy is what was sent so far.
func (s *sentWays) copy() map[string]Way {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := map[string]Way{}
	for name, w := range s.all {
		all[name] = w
	}
	return all
}

// archiveWay is what went in archive form.
func archiveWay(objects int, bytes int64) ways {
	return ways{encode.NameArchive: {Objects: int64(objects), Bytes: bytes, Archive: bytes}}
}
