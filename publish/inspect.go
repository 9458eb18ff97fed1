// SPDX-License-Identifier: AGPL-3.0-or-later

package publish

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/journal"
)

// Inspect compares the repository with what the journal says was published:
// that each ref is still there, is not where it was before, and names a commit of
// which every object is in the repository. Findings need an operator; notes do
// not.
func Inspect(ctx context.Context, cfg Config) (findings, notes []string, err error) {
	repo, err := ostree.OpenRepo(cfg.Repo)
	if err != nil {
		return nil, nil, err
	}
	sessions, err := cfg.Journal.Sessions(nil)
	if err != nil {
		return nil, nil, err
	}
	i := &inspection{
		journal: cfg.Journal,
		view:    &view{staged: repo, repo: repo}, // what is only staged does not count
		seen:    make(map[string]bool),
	}
	// The last to publish a ref first: older ones have successors.
	slices.SortStableFunc(sessions, func(a, b journal.Session) int { return b.Updated.Compare(a.Updated) })
	for _, s := range sessions {
		if err := i.session(ctx, &s); err != nil {
			return nil, nil, err
		}
	}
	due, err := cfg.Journal.Works()
	for _, w := range due {
		i.notes = append(i.notes, fmt.Sprintf("%s is to follow a publish since %s; the server does it", w.Name, w.Since.Format(time.RFC3339)))
	}
	return i.findings, i.notes, err
}

type inspection struct {
	journal         *journal.Journal
	view            *view
	seen            map[string]bool // refs that a newer session published
	findings, notes []string
}

func (i *inspection) session(ctx context.Context, s *journal.Session) error {
	switch s.State {
	case journal.Verifying, journal.Publishing:
		i.notes = append(i.notes, fmt.Sprintf("session %s was %s at the last stop; the next start finishes this", s.ID, s.State))
	case journal.Published:
		whole, err := i.journal.Session(s.ID)
		if err != nil {
			return err
		}
		for _, r := range whole.Refs {
			if i.seen[r.Ref] {
				continue
			}
			i.seen[r.Ref] = true
			if err := i.ref(ctx, s, r); err != nil {
				return err
			}
		}
	}
	return nil
}

func (i *inspection) ref(ctx context.Context, s *journal.Session, r wire.Ref) error {
	is, err := i.view.ref(r.Ref)
	if err != nil {
		return err
	}
	if is == "" {
		i.findings = append(i.findings, fmt.Sprintf("ref %s, which session %s published, is gone", r.Ref, s.ID))
		return nil
	}
	commit, err := ostree.ParseChecksum(is)
	if err != nil {
		return err
	}
	i.moved(s, r, commit)
	c := newClosure(i.view, func(_ context.Context, n ostree.Name) (bool, error) { return i.view.repo.Has(n) })
	if err := c.walk(ctx, commit); err != nil {
		return err
	}
	for _, m := range c.missing {
		i.findings = append(i.findings, fmt.Sprintf("ref %s, commit %s: object %s: %s", r.Ref, is, m.Object, m.Reason))
	}
	return nil
}

// moved compares where a ref is with where its session brought it. Others may
// have moved it on, or replaced it; at the commit before, the move may be lost.
func (i *inspection) moved(s *journal.Session, r wire.Ref, is ostree.Checksum) {
	if is.String() == r.Old && r.Old != r.New {
		i.findings = append(i.findings, fmt.Sprintf("ref %s is at %s, where it was before session %s published %s", r.Ref, is, s.ID, r.New))
		return
	}
	for at := is; at.String() != r.New; {
		commit, err := i.view.commit(at)
		if err != nil && !errors.Is(err, errAbsent) {
			i.findings = append(i.findings, fmt.Sprintf("ref %s, commit %s, history: %v", r.Ref, is, err))
			return
		}
		if err != nil { // the history was pruned, or never came: nobody can tell
			return
		}
		if !commit.HasParent {
			i.notes = append(i.notes, fmt.Sprintf("ref %s is at %s, which does not descend from %s, which session %s published", r.Ref, is, r.New, s.ID))
			return
		}
		at = commit.Parent
	}
}
