// SPDX-License-Identifier: AGPL-3.0-or-later

package publish

import "sync"

// previews keeps what was found out of sessions that are looked at, so that each request
// need not find it out again. It holds the newest ones, up to mostPreviewed objects.
type previews struct {
	making sync.Mutex // one is made at a time
	mu     sync.Mutex
	kept   []keptPreview // the newest last
}

type keptPreview struct {
	session string
	*preview
}

// mostPreviewed is how many names of objects are kept, of 33 bytes each; one preview is kept
// in any case.
const mostPreviewed = 4_000_000

// get returns the preview of a session, which is made unless it is kept.
func (p *previews) get(session string, make func() (*preview, error)) (*preview, error) {
	if kept := p.find(session); kept != nil {
		return kept, nil
	}
	p.making.Lock()
	defer p.making.Unlock()
	if kept := p.find(session); kept != nil { // made meanwhile
		return kept, nil
	}
	made, err := make()
	if err != nil {
		return nil, err
	}
	p.keep(keptPreview{session, made})
	return made, nil
}

func (p *previews) find(session string) *preview {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, k := range p.kept {
		if k.session == session {
			return k.preview
		}
	}
	return nil
}

func (p *previews) keep(made keptPreview) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.kept = append(p.kept, made)
	names := 0
	for i := len(p.kept) - 1; i >= 0; i-- {
		names += len(p.kept[i].names)
		if names > mostPreviewed && i < len(p.kept)-1 {
			p.kept = append([]keptPreview{}, p.kept[i+1:]...)
			return
		}
	}
}

// forget drops the preview of a session, if it is kept: it may change, or is over.
func (p *previews) forget(session string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, k := range p.kept {
		if k.session == session {
			p.kept = append(p.kept[:i:i], p.kept[i+1:]...)
			return
		}
	}
}
