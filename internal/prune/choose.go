// SPDX-License-Identifier: AGPL-3.0-or-later

package prune

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lirios/ostree-upload/internal/hint"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/journal"
)

// choose sorts the commits that are here into those that stay and those that go.
func (r *run) choose() error {
	refs, err := r.refs()
	if err != nil {
		return err
	}
	if r.stay, err = keptBy(r.history, refs, r.cfg.Keep, r.now); err != nil {
		return err
	}
	for name, is := range refs {
		if is.all || r.here[is.tip] {
			continue
		}
		if err := r.lost(name, is.tip); err != nil {
			return err
		}
	}
	before := len(r.stay)
	// In this order: a session that is published meanwhile is found by one of them.
	if err := r.keepRelied(r.gone()); err != nil {
		return err
	}
	if err := r.keepReplaced(); err != nil {
		return err
	}
	r.report.Held = len(r.stay) - before
	for _, c := range r.young {
		r.keep(c, "the time for which new objects stay")
	}
	r.report.New = len(r.stay) - before - r.report.Held
	reached, err := r.count(refs)
	if err != nil {
		return err
	}
	if err := r.spare(reached); err != nil {
		return err
	}
	return r.order()
}

// lost is the error of a ref whose commit is not here, unless it came just now.
func (r *run) lost(name string, c ostree.Checksum) error {
	n := ostree.Name{Checksum: c, Type: ostree.CommitObject}
	if there, err := r.repo.Has(n); err != nil || there {
		return err
	}
	return damaged(fmt.Errorf("ref %s names commit %s, which is not there", name, c))
}

// refs are all that keep commits.
func (r *run) refs() (map[string]ref, error) {
	local, err := r.repo.Refs()
	if bad := new(ostree.BadRefError); errors.As(err, &bad) {
		return nil, hint.Add(err, "nothing is removed before it is written again: ostree-upload check --content says how")
	}
	if err != nil {
		return nil, err
	}
	others, err := r.repo.OtherRefs()
	if bad := new(ostree.BadRefError); errors.As(err, &bad) {
		return nil, hint.Add(err, "nothing is removed before it names a commit again, or is removed: its path is refs/%s", strings.TrimPrefix(bad.Ref, "../"))
	}
	if err != nil {
		return nil, err
	}
	refs := make(map[string]ref, len(local)+len(others))
	for name, tip := range others {
		refs[name] = ref{tip: tip, all: true}
	}
	for name, tip := range local {
		_, alias, err := r.repo.Alias(name)
		if err != nil {
			return nil, err
		}
		refs[name] = ref{tip: tip, only: alias}
	}
	return refs, nil
}

// gone are the commits that do not stay, as far as is known.
func (r *run) gone() (list []ostree.Checksum) {
	for c := range r.here {
		if _, stays := r.stay[c]; !stays {
			list = append(list, c)
		}
	}
	return list
}

// keepReplaced keeps what refs named when a session that lives was opened: its client
// sends nothing of what those commits have.
func (r *run) keepReplaced() error {
	if r.cfg.Journal == nil {
		return nil
	}
	live, err := r.cfg.Journal.Live(nil)
	if err != nil || len(live) == 0 {
		return err
	}
	since := live[len(live)-1].Created // they are listed newest first
	since = maxTime(since, r.now.Add(-replacedAtMost))
	moved, err := r.cfg.Journal.Sessions(func(s *journal.Session) bool {
		return s.State == journal.Published && s.Updated.After(since)
	})
	for i := 0; i < len(moved) && err == nil; i++ {
		err = r.keepRefs(moved[i].ID)
	}
	return err
}

// replacedAtMost bounds for how long a session keeps what others have replaced. After
// that it may have to send more than it was told.
const replacedAtMost = 7 * 24 * time.Hour

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// keepRelied keeps those of some commits that sessions which live rely on: what their
// refs name or are to name, and what they found here.
func (r *run) keepRelied(commits []ostree.Checksum) error {
	if r.cfg.Journal == nil {
		return nil
	}
	live, err := r.cfg.Journal.Live(nil)
	if err != nil {
		return err
	}
	for i := range live {
		if err := r.keepRefs(live[i].ID); err != nil {
			return err
		}
	}
	names := make([]ostree.Name, len(commits))
	for i, c := range commits {
		names[i] = ostree.Name{Checksum: c, Type: ostree.CommitObject}
	}
	needed, err := r.cfg.Journal.Needed(names...)
	if err != nil {
		return err
	}
	for i, c := range commits {
		if needed[i] {
			r.keep(c, "a session")
		}
	}
	return nil
}

// keepRefs keeps what the refs of a session name before and after it.
func (r *run) keepRefs(session string) error {
	s, err := r.cfg.Journal.Session(session)
	if errors.Is(err, journal.ErrNotFound) { // it was forgotten just now
		return nil
	}
	if err != nil {
		return err
	}
	for _, ref := range s.Refs {
		for _, hex := range []string{ref.Old, ref.New} {
			if c, err := ostree.ParseChecksum(hex); err == nil { // "" names none
				r.keep(c, "session "+s.ID)
			}
		}
	}
	return nil
}

// keep keeps a commit that is here.
func (r *run) keep(c ostree.Checksum, who string) {
	if _, stays := r.stay[c]; !stays && r.here[c] {
		r.stay[c] = who
	}
}

// spare keeps for a while what no ref reaches.
func (r *run) spare(reached map[ostree.Checksum]bool) error {
	if r.cfg.Spare == nil {
		return nil
	}
	unreached := slices.DeleteFunc(r.gone(), func(c ostree.Checksum) bool { return reached[c] })
	stay, err := r.cfg.Spare(unreached)
	for c := range stay {
		r.keep(c, "the time for which the server keeps what no ref reaches")
	}
	r.report.Unreached -= len(stay)
	return err
}

// order notes which commits go, and puts each behind its parent: if the run ends in
// the middle, what is left of a history is still reached.
func (r *run) order() error {
	pending := make(map[ostree.Checksum]bool)
	for _, c := range r.gone() {
		pending[c] = true
	}
	for c := range pending {
		var line []ostree.Checksum // from child to parent
		for pending[c] {
			pending[c] = false
			line = append(line, c)
			parent, there, err := r.history.parent(c)
			if err != nil && !isBad(err) {
				return err
			}
			if !there {
				break
			}
			c = parent
		}
		slices.Reverse(line)
		r.going = append(r.going, line...)
	}
	return nil
}
