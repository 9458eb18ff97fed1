// SPDX-License-Identifier: AGPL-3.0-or-later

package push

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
)

// maxInflation is the most that a byte of a deflate stream can become, and a bit.
const maxInflation = 1040

// A survey looks at every object of a push before anything is sent, and compares
// it with what the server told of itself. It reads no content, and looks at many
// objects at once: the push waits for it.
type survey struct {
	run      *run
	moves    []wire.Ref
	limits   wire.InfoLimits
	mode     string // of the server's repository
	sent     int64  // bytes that all of them take at least, in archive form
	inflated int64  // only if the session's size is limited
	objects  int64  // of all of them, also those that the server has
	refused  []refused
}

// How a survey looks at objects: the disk may be slow to find each.
const (
	lookers    = 8    // at once
	lookBatch  = 4096 // objects between them, in the order of the walk
	longHeader = 64 << 10
)

// A look is what was seen of one object.
type look struct {
	sent, inflated int64
	refused        *refused // nil: the server takes it
	err            error
}

// refused is an object that the server will not take, unless it has it.
type refused struct {
	name         ostree.Name
	code, reason string
}

// surveyed are those moves that the server can take, as far as objects tell. Of
// refs that were named, one that it cannot take is an error.
func (r *run) surveyed(ctx context.Context, moves []wire.Ref) ([]wire.Ref, error) {
	have := r.have()
	if len(r.opt.Refs) > 0 || len(moves) < 2 {
		return moves, r.survey(ctx, moves, have)
	}
	r.refs = nil // no search for a path in each ref: the error is made again for its ref
	err := r.survey(ctx, moves, have)
	if err == nil || !r.mayLeave(err) {
		return moves, err
	}
	var fit []wire.Ref
	for _, m := range moves {
		r.refs = []wire.Ref{m}
		err := r.survey(ctx, r.refs, r.nearest(m, have))
		if err == nil {
			fit = append(fit, m)
		} else if err := r.leave(m.Ref, err); err != nil {
			return nil, err
		}
	}
	r.refs = fit
	return fit, r.survey(ctx, fit, have) // their sum
}

// nearest is the one commit of have where the walk of a ref's history ends, if there
// is one. To skip what all of have holds takes too long to do it for each ref.
func (r *run) nearest(m wire.Ref, have map[ostree.Checksum]bool) map[ostree.Checksum]bool {
	c, err := ostree.ParseChecksum(m.New)
	for err == nil && !have[c] {
		var parent *ostree.Checksum
		if parent, err = r.repo.Parent(c); err != nil || parent == nil {
			return nil // the walk tells of the error
		}
		c = *parent
	}
	return map[ostree.Checksum]bool{c: true}
}

// survey refuses what the server would refuse once it has arrived. have is where
// the walk may stop.
func (r *run) survey(ctx context.Context, moves []wire.Ref, have map[ostree.Checksum]bool) error {
	s := &survey{run: r, moves: moves, limits: r.info.Limits, mode: cmp.Or(r.info.Mode, ostree.ModeArchive)}
	walk, err := r.objects(moves, have)
	if err != nil {
		return err
	}
	look := func(names []ostree.Name) error {
		s.objects += int64(len(names))
		return s.add(names)
	}
	if err := walk.inBatches(ctx, lookBatch, look); err != nil {
		return &unfitError{r.explain(ctx, err)} // add reads only what is here
	}
	if err := s.checkCount(); err != nil {
		return err
	}
	if err := s.refuse(ctx); err != nil {
		return err
	}
	return s.checkSum(ctx, walk)
}

// add looks at some objects. Of several errors and refusals the first of the walk
// comes first, so that each push of the same says the same.
func (s *survey) add(names []ostree.Name) error {
	looks := make([]look, len(names))
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(lookers, len(names)) {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(names)); i = next.Add(1) - 1 {
				looks[i] = s.look(names[i])
			}
		})
	}
	wg.Wait()
	for _, l := range looks {
		if l.err != nil {
			return l.err
		}
		s.sent += l.sent
		s.inflated += l.inflated
		if l.refused != nil {
			s.refused = append(s.refused, *l.refused)
		}
	}
	return nil
}

// look looks at one object.
func (s *survey) look(n ostree.Name) look {
	m, err := s.run.repo.Measure(n)
	if err != nil {
		return look{err: err}
	}
	l := look{sent: atLeast(m), inflated: m.Stored}
	switch n.Type {
	case ostree.File:
		l.inflated = 0
		l.err = s.content(&l, n, m)
	case ostree.CommitMeta:
		l.limit(n, m.Stored, ostree.MaxCommitMeta, "detached metadata")
	default:
		l.limit(n, m.Stored, s.limits.MaxMetadataSize, "a commit, dirtree or dirmeta (max-metadata-size)")
	}
	return l
}

// atLeast is how many bytes an object takes in archive form: exactly, or the
// fewest for content that is yet to be compressed.
func atLeast(m ostree.Measure) int64 {
	if m.Archive {
		return m.Stored
	}
	return 40 + m.Stored/maxInflation
}

// content reads the header of content where something depends on it: of a long one,
// since a value of an attribute may be longer than Linux takes.
func (s *survey) content(l *look, n ostree.Name, m ostree.Measure) error {
	most := s.limits.MaxObjectSize
	large := most > 0 && (m.Stored > most || m.Archive && m.Stored > most/maxInflation)
	if !large && s.mode == ostree.ModeArchive && s.limits.MaxSessionSize == 0 && m.Stored <= longHeader {
		return nil
	}
	h, err := s.run.repo.FileHeader(n)
	if err != nil {
		return err
	}
	l.inflated = int64(h.Size)
	l.limit(n, int64(h.Size), most, "a file (max-object-size)")
	if reason := h.StorableIn(s.mode); reason != nil && l.refused == nil {
		l.refused = &refused{n, wire.Policy, reason.Error()}
	}
	return nil
}

// limit refuses an object with more bytes than the server takes; 0 is no limit.
func (l *look) limit(n ostree.Name, size, most int64, of string) {
	if most > 0 && size > most {
		reason := fmt.Sprintf("it has %s, more than the %s that the server takes of %s", bytesOf(size), bytesOf(most), of)
		l.refused = &refused{n, wire.TooLarge, reason}
	}
}

// divided tells whether the moves take several sessions.
func (s *survey) divided() bool {
	return fitting(s.moves, s.limits.MaxRefs, s.run.opt.mostBody()) < len(s.moves)
}

// checkCount refuses a push of more objects than a session may name.
func (s *survey) checkCount() error {
	if most := s.limits.MaxObjects; most > 0 && s.objects > most && !s.divided() {
		return &Error{
			Exit: ExitRefused, Code: wire.TooLarge,
			Err:      fmt.Errorf("this push has %d objects, more than the %d that the server takes of a session (max-objects)", s.objects, most),
			HintText: "nothing was sent; push fewer refs at once or with --depth, or have the limit raised in the server's configuration",
		}
	}
	return nil
}

// refuse is the error of the first object that was refused and that the server
// does not have yet.
func (s *survey) refuse(ctx context.Context) error {
	if len(s.refused) == 0 {
		return nil
	}
	names := make([]ostree.Name, len(s.refused))
	for i, o := range s.refused {
		names[i] = o.name
	}
	lacking, known, err := s.run.lacking(ctx, names)
	if err != nil {
		return err
	}
	if known && len(lacking) == 0 {
		return nil
	}
	first := s.refused[0]
	for _, o := range s.refused {
		if known && o.name == lacking[0] {
			first = o
		}
	}
	err = fmt.Errorf("%s: %s", s.run.describe(ctx, first.name), first.reason)
	if others := len(lacking) - 1; others > 0 {
		err = fmt.Errorf("%w; %d other objects are refused, too", err, others)
	}
	return &Error{Exit: ExitRefused, Code: first.code, Err: err, HintText: hintOf(first.code)}
}

// hintOf is the next step after a refusal of an object.
func hintOf(code string) string {
	if code == wire.TooLarge {
		return "nothing was sent; commit less, or have the limit raised in the server's configuration"
	}
	return "nothing was sent; commit it so that the server's repository can keep it, or push to a repository of mode archive"
}

// checkSum refuses a push that is too large in all. It asks which objects the
// server has, if all of them together are too much.
func (s *survey) checkSum(ctx context.Context, walk source) error {
	if s.exceeds() == nil || s.run.info.Token == nil {
		return nil
	}
	refused := s.refused
	s.sent, s.inflated, s.refused = 0, 0, nil
	err := walk.inBatches(ctx, s.run.opt.mostNames(), func(names []ostree.Name) error {
		lacking, _, err := s.run.lacking(ctx, names)
		if err != nil {
			return err
		}
		return s.add(lacking)
	})
	if err != nil {
		return err
	}
	s.refused = refused
	return s.exceeds()
}

// exceeds is the error of objects that are too much for a session or the disk.
func (s *survey) exceeds() error {
	most := s.limits.MaxSessionSize
	if s.divided() {
		most = 0 // several sessions, and each may have as much
	}
	if size := max(s.sent, s.inflated); most > 0 && size > most {
		return &Error{
			Exit: ExitRefused, Code: wire.TooLarge,
			Err:      fmt.Errorf("this push has %s, more than the %s that the server takes of a session (max-session-size)", bytesOf(size), bytesOf(most)),
			HintText: "nothing was sent; push fewer refs at once or with --depth, or have the limit raised in the server's configuration",
		}
	}
	if free := s.run.info.Free; free != nil && s.sent > *free {
		return &Error{
			Exit: ExitForNow, Code: wire.InsufficientStorage,
			Err:      fmt.Errorf("this push needs at least %s, and the server's disk has %s for it: %s", bytesOf(s.sent), bytesOf(*free), cmp.Or(s.run.info.FreeBecause, "it does not say why")),
			HintText: "nothing was sent; make room on the server, then push again",
		}
	}
	return nil
}

// bytesOf is a number of bytes, also in MiB where that is exact.
func bytesOf(n int64) string {
	if n >= 1<<20 && n%(1<<20) == 0 {
		return fmt.Sprintf("%d bytes (%d MiB)", n, n>>20)
	}
	return fmt.Sprintf("%d bytes", n)
}
