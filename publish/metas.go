// SPDX-License-Identifier: AGPL-3.0-or-later

package publish

import (
	"errors"
	"fmt"
	"slices"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
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
	refs, err := a.target.repo.Refs()
	if err != nil {
		return err
	}
	named := make(map[ostree.Checksum][]string) // refs by the commit that they name
	for ref, c := range refs {
		named[c] = append(named[c], ref)
	}
	a.metas = make(map[ostree.Checksum][]byte)
	for c, meta := range metas {
		why, err := a.notTheirs(c, named[c])
		if err != nil {
			return err
		}
		if why != "" {
			a.warn("detached metadata of commit %s was left out: %s", c, why)
			continue
		}
		if _, _, err := a.target.merged(c, meta); err != nil {
			return outcomef(wire.Policy, "commit %s: %v", c, err)
		}
		a.metas[c] = meta
	}
	return nil
}

// notTheirs tells why a session may not change a commit's detached metadata, which
// refs name: whoever could would take the room that its owners need to sign it. Its
// owners are those who may push every ref that names it, and those who may push the
// refs that it was first published under: others may have put theirs there since.
func (a *apply) notTheirs(c ostree.Checksum, refs []string) (why string, err error) {
	sent, known := a.plan.sent[c]
	if !known {
		return "no ref of this session leads to it", nil
	}
	name := a.plan.session.Token
	t := a.cfg.Token(name)
	may := func(ref string) bool { return t != nil && t.MayPush(ref) }
	other := slices.IndexFunc(refs, func(ref string) bool { return !may(ref) })
	if other < 0 && (len(refs) > 0 || sent || t != nil && t.Refs == nil) {
		return "", nil
	}
	first, err := a.firstRefs(c)
	if err != nil || len(first) > 0 && !slices.ContainsFunc(first, func(ref string) bool { return !may(ref) }) {
		return "", err
	}
	if other >= 0 {
		return fmt.Sprintf("ref %s names it too, which token %s may not push", refs[other], name), nil
	}
	return fmt.Sprintf("it was here before, and no ref that token %s may push names it", name), nil
}

// firstRefs gives the refs that the first session in the history that published a
// commit moved to it.
func (a *apply) firstRefs(c ostree.Checksum) (refs []string, err error) {
	sum := c.String()
	moved := func(r wire.Ref) bool { return r.New == sum && r.Old != sum }
	list, err := a.cfg.Journal.Sessions(func(s *journal.Session) bool { // which have the first refs only
		return s.State == journal.Published && (slices.ContainsFunc(s.Refs, moved) || s.RefCount > len(s.Refs))
	})
	if err != nil {
		return nil, err
	}
	for _, s := range slices.Backward(list) { // from the oldest on
		whole, err := a.cfg.Journal.Session(s.ID)
		if errors.Is(err, journal.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, r := range whole.Refs {
			if moved(r) {
				refs = append(refs, r.Ref)
			}
		}
		if len(refs) > 0 {
			break
		}
	}
	return refs, nil
}

// mergeMetas merges what checkMetas has let through. What somebody else has made
// too large since is left out.
func (a *apply) mergeMetas() error {
	for c, sent := range a.metas {
		meta, changed, err := a.target.merged(c, sent)
		if err != nil {
			a.warn("detached metadata of commit %s was left out: %v", c, err)
			continue
		}
		if !changed {
			continue
		}
		if err := a.target.writeMeta(c, meta); err != nil {
			return err
		}
	}
	return nil
}
