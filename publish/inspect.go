// SPDX-License-Identifier: AGPL-3.0-or-later

package publish

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/journal"
)

// Inspect compares the repository with what the journal says was published last:
// that each ref is still there, or gone, is not where it was before, and names a commit of
// which every object is in the repository; that no ref is damaged, and that the summary
// fits. Findings need an operator; notes do not.
func Inspect(ctx context.Context, cfg Config) (findings, notes []string, err error) {
	cfg.fill()
	p := productionOf(cfg)
	read := p.read
	if cfg.Mirror != nil {
		read = cfg.Mirror.Certain
	}
	repo, err := read()
	if err != nil {
		return nil, nil, err
	}
	// What is only staged does not count.
	i := &inspection{cfg: cfg, view: &view{repo: repo}, moving: make(map[string]bool), seen: make(map[string]bool), wrong: make(map[string]bool), placed: make(map[string]bool)}
	if err := i.sessions(); err != nil {
		return nil, nil, err
	}
	if err := cfg.Journal.Moved(func(m journal.RefMove) error { return i.ref(ctx, m) }); err != nil {
		return nil, nil, err
	}
	if err := errors.Join(i.others(ctx), i.works()); err != nil {
		return nil, nil, err
	}
	if !i.writes {
		err = i.summary(ctx, cfg, p)
	}
	return i.findings, i.notes, err
}

// sessions notes those that the next start goes on with.
func (i *inspection) sessions() error {
	live, err := i.cfg.Journal.Live(inState(journal.Verifying, journal.Publishing))
	if err != nil {
		return err
	}
	for _, s := range live {
		whole, err := i.cfg.Journal.Session(s.ID)
		if err != nil {
			return err
		}
		for ref := range whole.RefNames() {
			i.moving[ref] = s.State == journal.Publishing || i.moving[ref]
		}
		i.writes = i.writes || s.State == journal.Publishing
		i.notes = append(i.notes, fmt.Sprintf("session %s was %s at the last stop; the next start finishes this", s.ID, s.State))
	}
	return nil
}

// works notes those that are due.
func (i *inspection) works() error {
	due, err := i.cfg.Journal.Works()
	for _, w := range due {
		i.writes = i.writes || w.Name == workSummary || i.cfg.Summary() == Elsewhere
		i.notes = append(i.notes, fmt.Sprintf("%s is to follow a publish since %s; the server does it", w.Name, w.Since.Format(time.RFC3339)))
	}
	return err
}

type inspection struct {
	cfg             Config
	view            *view
	seen            map[string]bool // refs by their last moves
	moving          map[string]bool // refs of a session that is publishing: old or new
	wrong           map[string]bool // refs that are not where they are to be
	placed          map[string]bool // refs that are where their last sessions brought them
	writes          bool            // something is due that writes the summary
	findings, notes []string
}

// ref looks at a ref by its last move.
func (i *inspection) ref(ctx context.Context, m journal.RefMove) error {
	i.seen[m.Ref] = true
	is, err := i.view.ref(m.Ref)
	if bad := new(ostree.BadRefError); errors.As(err, &bad) {
		return i.damaged(bad, m.New)
	}
	if err != nil {
		return err
	}
	i.placed[m.Ref] = is == m.New
	switch {
	case is == "" && (m.New == "" || i.moving[m.Ref]):
		return nil
	case i.moving[m.Ref]: // it is where that session found it, or brings it
	case is == "":
		i.misplaced(m.Ref, "ref %s, which session %s published, is gone", m.Ref, m.Session)
		return nil
	case m.New == "" && is == m.Old:
		i.misplaced(m.Ref, "ref %s is at %s, where it was before session %s deleted it", m.Ref, is, m.Session)
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
	return i.whole(ctx, m.Ref, commit)
}

// whole looks for what a ref needs.
func (i *inspection) whole(ctx context.Context, ref string, commit ostree.Checksum) error {
	c := newClosure(i.view, nil)
	if err := c.walk(ctx, commit); err != nil || len(c.missing) == 0 {
		return err
	}
	// Another server may have moved the ref, and pruned what it needed before.
	if now, err := i.view.ref(ref); err != nil || now != commit.String() {
		return err
	}
	for _, lacks := range c.missing {
		i.findings = append(i.findings, fmt.Sprintf("ref %s, commit %s: object %s: %s", ref, commit, lacks.Object, lacks.Reason))
	}
	return nil
}

func (i *inspection) misplaced(ref, format string, args ...any) {
	i.wrong[ref] = true
	i.findings = append(i.findings, fmt.Sprintf(format, args...))
}

// others looks for damaged refs that no session has published. In a bucket other servers
// have, and the objects that those refs need are looked for, too.
func (i *inspection) others(ctx context.Context) error {
	names, err := i.view.repo.RefNames()
	if bad := new(ostree.BadRefError); errors.As(err, &bad) && !i.seen[bad.Ref] {
		return i.damaged(bad, "")
	} else if err != nil && bad.Ref == "" {
		return err
	}
	for _, name := range names {
		if i.seen[name] {
			continue
		}
		if err := i.other(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

func (i *inspection) other(ctx context.Context, ref string) error {
	is, err := i.view.ref(ref)
	if bad := new(ostree.BadRefError); errors.As(err, &bad) {
		return i.damaged(bad, "")
	}
	if err != nil || is == "" || i.cfg.Mirror == nil {
		return err
	}
	commit, err := ostree.ParseChecksum(is)
	if err != nil {
		return err
	}
	return i.whole(ctx, ref, commit)
}

// damaged names a ref of which the file is damaged, with what puts it back where its last
// session brought it.
func (i *inspection) damaged(bad *ostree.BadRefError, last string) error {
	_, alias, err := i.view.repo.Alias(bad.Ref)
	if err != nil || alias {
		return err // it stands for a ref that is named itself
	}
	commit := cmp.Or(last, "COMMIT")
	next := fmt.Sprintf("echo %s > %s", commit, filepath.Join(i.cfg.Repo, "refs/heads", bad.Ref))
	if i.cfg.Mirror != nil {
		next = i.cfg.Mirror.Rewrite(bad.Ref, commit)
	}
	if last == "" {
		next += ", with the commit that it is to name; the server does not know it"
	}
	i.findings = append(i.findings, fmt.Sprintf("%v; write it again: %s", bad, next))
	return nil
}

// moved compares where a ref is with where its session brought it. Others may
// have moved it on, or replaced it; at the commit before, the move may be lost.
func (i *inspection) moved(m journal.RefMove, is ostree.Checksum) {
	if is.String() == m.Old {
		i.misplaced(m.Ref, "ref %s is at %s, where it was before session %s published %s", m.Ref, is, m.Session, m.New)
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
