// SPDX-License-Identifier: AGPL-3.0-or-later

package publish

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/journal"
)

// Inspect compares the repository with what the journal says was published last:
// that each ref is still there, or gone, is not where it was before, and names a commit of
// which every object is in the repository. Findings need an operator; notes do
// not.
func Inspect(ctx context.Context, cfg Config) (findings, notes []string, err error) {
	repo, err := productionOf(cfg).read()
	if err != nil {
		return nil, nil, err
	}
	live, err := cfg.Journal.Live(inState(journal.Verifying, journal.Publishing))
	if err != nil {
		return nil, nil, err
	}
	i := &inspection{view: &view{repo: repo}, moving: make(map[string]bool)} // what is only staged does not count
	for _, s := range live {
		whole, err := cfg.Journal.Session(s.ID)
		if err != nil {
			return nil, nil, err
		}
		for ref := range whole.RefNames() {
			i.moving[ref] = s.State == journal.Publishing || i.moving[ref]
		}
		i.notes = append(i.notes, fmt.Sprintf("session %s was %s at the last stop; the next start finishes this", s.ID, s.State))
	}
	if err := cfg.Journal.Moved(func(m journal.RefMove) error { return i.ref(ctx, m) }); err != nil {
		return nil, nil, err
	}
	due, err := cfg.Journal.Works()
	for _, w := range due {
		i.notes = append(i.notes, fmt.Sprintf("%s is to follow a publish since %s; the server does it", w.Name, w.Since.Format(time.RFC3339)))
	}
	return i.findings, i.notes, err
}

type inspection struct {
	view            *view
	moving          map[string]bool // refs of a session that is publishing: old or new
	findings, notes []string
}

// ref looks at a ref by its last move.
func (i *inspection) ref(ctx context.Context, m journal.RefMove) error {
	is, err := i.view.ref(m.Ref)
	if err != nil {
		return err
	}
	switch {
	case is == "" && (m.New == "" || i.moving[m.Ref]):
		return nil
	case i.moving[m.Ref]: // it is where that session found it, or brings it
	case is == "":
		i.findings = append(i.findings, fmt.Sprintf("ref %s, which session %s published, is gone", m.Ref, m.Session))
		return nil
	case m.New == "" && is == m.Old:
		i.findings = append(i.findings, fmt.Sprintf("ref %s is at %s, where it was before session %s deleted it", m.Ref, is, m.Session))
	case m.New == "":
		i.notes = append(i.notes, fmt.Sprintf("ref %s, which session %s deleted, is there again, at %s", m.Ref, m.Session, is))
	}
	commit, err := ostree.ParseChecksum(is)
	if err != nil {
		return err
	}
	if m.New != "" && !i.moving[m.Ref] {
		i.moved(m, commit)
	}
	c := newClosure(i.view, nil)
	if err := c.walk(ctx, commit); err != nil {
		return err
	}
	for _, lacks := range c.missing {
		i.findings = append(i.findings, fmt.Sprintf("ref %s, commit %s: object %s: %s", m.Ref, is, lacks.Object, lacks.Reason))
	}
	return nil
}

// moved compares where a ref is with where its session brought it. Others may
// have moved it on, or replaced it; at the commit before, the move may be lost.
func (i *inspection) moved(m journal.RefMove, is ostree.Checksum) {
	if is.String() == m.Old {
		i.findings = append(i.findings, fmt.Sprintf("ref %s is at %s, where it was before session %s published %s", m.Ref, is, m.Session, m.New))
		return
	}
	for at := is; at.String() != m.New; {
		commit, err := i.view.commit(at)
		if err != nil && !errors.Is(err, errAbsent) {
			i.findings = append(i.findings, fmt.Sprintf("ref %s, commit %s, history: %v", m.Ref, is, err))
			return
		}
		if err != nil { // the history was pruned, or never came: nobody can tell
			return
		}
		if !commit.HasParent {
			i.notes = append(i.notes, fmt.Sprintf("ref %s is at %s, which does not descend from %s, which session %s published", m.Ref, is, m.New, m.Session))
			return
		}
		at = commit.Parent
	}
}
