// SPDX-License-Identifier: AGPL-3.0-or-later

package publish

import (
	"fmt"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
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
		if why := a.notTheirs(c, named[c]); why != "" {
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
// refs name: whoever could would take the room that its owners need to sign it.
func (a *apply) notTheirs(c ostree.Checksum, refs []string) string {
	sent, known := a.plan.sent[c]
	if !known {
		return "no ref of this session leads to it"
	}
	name := a.plan.session.Token
	t := a.cfg.Token(name)
	for _, ref := range refs {
		if t == nil || !t.MayPush(ref) {
			return fmt.Sprintf("ref %s names it too, which token %s may not push", ref, name)
		}
	}
	if len(refs) == 0 && !sent && (t == nil || t.Refs != nil) {
		return fmt.Sprintf("it was here before, and no ref that token %s may push names it", name)
	}
	return ""
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
