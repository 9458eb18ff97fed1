// SPDX-License-Identifier: AGPL-3.0-or-later

package publish

import (
	"context"
	"fmt"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/journal"
)

// Inspect compares the repository with what the journal says was published:
// that each ref is still there and names a commit of which every object is in
// the repository. Findings need an operator; notes the next start sees to.
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
		view: &view{staged: repo, repo: repo}, // what is only staged does not count
		seen: make(map[string]bool),
	}
	for _, s := range sessions { // newest first: older ones have successors
		if err := i.session(ctx, &s); err != nil {
			return nil, nil, err
		}
	}
	return i.findings, i.notes, nil
}

type inspection struct {
	view            *view
	seen            map[string]bool // refs that a newer session published
	findings, notes []string
}

func (i *inspection) session(ctx context.Context, s *journal.Session) error {
	switch s.State {
	case journal.Verifying, journal.Publishing:
		i.notes = append(i.notes, fmt.Sprintf("session %s was %s at the last stop", s.ID, s.State))
	case journal.Published:
		for _, r := range s.Refs {
			if i.seen[r.Ref] {
				continue
			}
			i.seen[r.Ref] = true
			if err := i.ref(ctx, s, r.Ref); err != nil {
				return err
			}
		}
	}
	return nil
}

func (i *inspection) ref(ctx context.Context, s *journal.Session, name string) error {
	is, err := i.view.ref(name)
	if err != nil {
		return err
	}
	if is == "" {
		i.findings = append(i.findings, fmt.Sprintf("ref %s, which session %s published, is gone", name, s.ID))
		return nil
	}
	commit, err := ostree.ParseChecksum(is)
	if err != nil {
		return err
	}
	c := newClosure(i.view)
	if err := c.add(ctx, commit); err != nil {
		return err
	}
	for _, m := range c.missing {
		i.findings = append(i.findings, fmt.Sprintf("ref %s, commit %s: object %s: %s", name, is, m.Object, m.Reason))
	}
	return nil
}
