// SPDX-License-Identifier: AGPL-3.0-or-later

package push

import (
	"cmp"
	"context"
	"fmt"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
)

// maxInflation is the most that a byte of a deflate stream can become, and a bit.
const maxInflation = 1040

// A survey looks at every object of a push before anything is sent, and compares
// it with what the server told of itself. It reads no content.
type survey struct {
	run      *run
	limits   wire.InfoLimits
	mode     string // of the server's repository
	sent     int64  // bytes that all of them take at least, in archive form
	inflated int64  // only if the session's size is limited
	refused  []refused
}

// refused is an object that the server will not take, unless it has it.
type refused struct {
	name         ostree.Name
	code, reason string
}

// surveyed are those moves that the server can take, as far as objects tell. Of
// refs that were named, one that it cannot take is an error.
func (r *run) surveyed(ctx context.Context, moves []wire.Ref) ([]wire.Ref, error) {
	err := r.survey(ctx, moves)
	if err == nil || !r.mayLeave(err) || len(moves) < 2 {
		return moves, err
	}
	var fit []wire.Ref
	for _, m := range moves {
		err := r.survey(ctx, []wire.Ref{m})
		if err == nil {
			fit = append(fit, m)
		} else if err := r.leave(m.Ref, err); err != nil {
			return nil, err
		}
	}
	return fit, r.survey(ctx, fit) // their sum
}

// survey refuses what the server would refuse once it has arrived.
func (r *run) survey(ctx context.Context, moves []wire.Ref) error {
	s := &survey{run: r, limits: r.info.Limits, mode: cmp.Or(r.info.Mode, ostree.ModeArchive)}
	walk, err := r.objects(moves, r.have())
	if err != nil {
		return err
	}
	if err := walk(ctx, s.visit); err != nil {
		return &unfitError{r.explain(ctx, err)} // visit reads only what is here
	}
	if err := s.refuse(ctx); err != nil {
		return err
	}
	return s.checkSum(ctx, walk)
}

// visit looks at one object.
func (s *survey) visit(n ostree.Name) error {
	m, err := s.run.repo.Measure(n)
	if err != nil {
		return err
	}
	s.sent += atLeast(m)
	switch n.Type {
	case ostree.File:
		return s.content(n, m)
	case ostree.CommitMeta:
		s.limit(n, m.Stored, ostree.MaxCommitMeta, "detached metadata")
	default:
		s.limit(n, m.Stored, s.limits.MaxMetadataSize, "a commit, dirtree or dirmeta (max-metadata-size)")
	}
	s.inflated += m.Stored
	return nil
}

// atLeast is how many bytes an object takes in archive form: exactly, or the
// fewest for content that is yet to be compressed.
func atLeast(m ostree.Measure) int64 {
	if m.Archive {
		return m.Stored
	}
	return 40 + m.Stored/maxInflation
}

// content reads the header of content where something depends on it.
func (s *survey) content(n ostree.Name, m ostree.Measure) error {
	const longHeader = 64 << 10 // a value of an attribute may be longer than Linux takes
	most := s.limits.MaxObjectSize
	large := most > 0 && (m.Stored > most || m.Archive && m.Stored > most/maxInflation)
	if !large && s.mode == ostree.ModeArchive && s.limits.MaxSessionSize == 0 && m.Stored <= longHeader {
		return nil
	}
	h, err := s.run.repo.FileHeader(n)
	if err != nil {
		return err
	}
	s.inflated += int64(h.Size)
	s.limit(n, int64(h.Size), most, "a file (max-object-size)")
	if reason := h.StorableIn(s.mode); reason != nil {
		s.refused = append(s.refused, refused{n, wire.Policy, reason.Error()})
	}
	return nil
}

// limit refuses an object with more bytes than the server takes; 0 is no limit.
func (s *survey) limit(n ostree.Name, size, most int64, of string) {
	if most > 0 && size > most {
		reason := fmt.Sprintf("it has %s, more than the %s that the server takes of %s", bytesOf(size), bytesOf(most), of)
		s.refused = append(s.refused, refused{n, wire.TooLarge, reason})
	}
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
	all := *s
	s.sent, s.inflated, s.refused = 0, 0, nil
	var batch []ostree.Name
	flush := func() error {
		lacking, _, err := s.run.lacking(ctx, batch)
		batch = batch[:0]
		for _, n := range lacking {
			if err := s.visit(n); err != nil {
				return err
			}
		}
		return err
	}
	err := walk(ctx, func(n ostree.Name) error {
		if batch = append(batch, n); len(batch) < largestBatch {
			return nil
		}
		return flush()
	})
	if err == nil {
		err = flush()
	}
	if err != nil {
		return err
	}
	s.refused = all.refused
	return s.exceeds()
}

// exceeds is the error of objects that are too much for a session or the disk.
func (s *survey) exceeds() error {
	most := s.limits.MaxSessionSize
	if fitting(s.run.refs, s.limits.MaxRefs) < len(s.run.refs) {
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
