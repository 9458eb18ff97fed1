// SPDX-License-Identifier: AGPL-3.0-or-later

package publish

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/journal"
)

// checkMetas decides which detached metadata of the session will be merged, before
// anything changes. What belongs to others is left out, with a warning; what is too
// large is the outcome of the session.
func (a *apply) checkMetas() error {
	metas, err := a.cfg.Journal.CommitMetas(a.plan.session.ID)
	if err != nil || len(metas) == 0 {
		return err
	}
	refs, err := a.view.repo.Refs()
	if err != nil {
		return err
	}
	named := make(map[ostree.Checksum][]string) // refs by the commit that they name
	for ref, c := range refs {
		named[c] = append(named[c], ref)
	}
	first := sync.OnceValues(func() (map[ostree.Checksum][]string, error) { return a.firstRefs(metas) })
	a.metas = make(map[ostree.Checksum][]byte)
	for c, meta := range metas {
		why, err := a.notTheirs(c, named[c], first)
		if err != nil {
			return err
		}
		if why != "" {
			a.leaveOut(c, why)
			continue
		}
		_, _, err = a.view.merged(c, meta)
		if refused := new(Outcome); err != nil && !(errors.As(err, &refused) && a.plan.session.State == journal.Publishing) {
			return err // one that was let through before a crash is not refused now
		}
		a.metas[c] = meta
	}
	return nil
}

// notTheirs tells why a session may not change a commit's detached metadata, which
// refs name: whoever could would take the room that its owners need to sign it. Its
// owners are those who may push every ref that names it, and those who may push the
// refs that it was first published under: others may have put theirs there since.
func (a *apply) notTheirs(c ostree.Checksum, refs []string, first func() (map[ostree.Checksum][]string, error)) (why string, err error) {
	sent, known := a.plan.sent[c]
	if !known {
		return "no ref of this session leads to it", nil
	}
	name := a.plan.session.Token
	t := a.cfg.Token(name)
	others := func(ref string) bool { return t == nil || !t.MayPush(ref) }
	other := slices.IndexFunc(refs, others)
	if other < 0 && (len(refs) > 0 || sent || t != nil && t.Refs == nil) {
		return "", nil
	}
	under, err := first()
	if err != nil || len(under[c]) > 0 && !slices.ContainsFunc(under[c], others) {
		return "", err
	}
	if other >= 0 {
		return fmt.Sprintf("ref %s names it too, which token %s may not push", refs[other], name), nil
	}
	return fmt.Sprintf("it was here before, and no ref that token %s may push names it", name), nil
}

// firstRefs gives, for each of the commits that a session in the history brought, the
// refs that the first of them moved to it. One that was here before is nobody's for
// being named, else anybody could make it theirs. It reads the whole history.
func (a *apply) firstRefs(commits map[ostree.Checksum][]byte) (map[ostree.Checksum][]string, error) {
	first := make(map[ostree.Checksum][]string)
	_, err := a.cfg.Journal.Sessions(func(s *journal.Session) bool {
		if s.State == journal.Published {
			for c, refs := range broughtRefs(s, commits) {
				first[c] = refs // over those of a newer session
			}
		}
		return false
	})
	return first, err
}

// broughtRefs gives the refs that a session moved to those of the commits that it
// brought.
func broughtRefs(s *journal.Session, commits map[ostree.Checksum][]byte) map[ostree.Checksum][]string {
	refs := make(map[ostree.Checksum][]string)
	for _, r := range s.Refs {
		c, err := ostree.ParseChecksum(r.New)
		if _, asked := commits[c]; err == nil && asked && slices.Contains(s.Brought, r.Ref) {
			refs[c] = append(refs[c], r.Ref)
		}
	}
	return refs
}

// mergeMetas merges what checkMetas has let through, and the server's signatures. What
// somebody else has made too large since is left out, unless it would be such a signature.
func (a *apply) mergeMetas(ctx context.Context) error {
	for c, sent := range a.metas {
		meta, changed, err := a.view.merged(c, sent)
		if refused := new(Outcome); errors.As(err, &refused) && !a.signed[c] {
			a.leaveOut(c, refused.Detail)
			continue
		}
		if err != nil {
			return err
		}
		if !changed {
			continue
		}
		if err := a.target.writeMeta(ctx, c, meta); err != nil {
			return err
		}
	}
	if more := a.leftOut - fewLeftOut; more > 0 {
		a.warn("detached metadata of %d more commits was left out", more)
	}
	return nil
}

// fewLeftOut is how many commits the warnings name whose detached metadata is left
// out: a session can bring that of thousands, and the journal keeps what it is told.
const fewLeftOut = 3

// leaveOut warns that detached metadata is not merged.
func (a *apply) leaveOut(c ostree.Checksum, why string) {
	if a.leftOut++; a.leftOut <= fewLeftOut {
		a.warn("detached metadata of commit %s was left out: %s", c, why)
	}
}
