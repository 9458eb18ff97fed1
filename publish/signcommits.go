// SPDX-License-Identifier: AGPL-3.0-or-later

package publish

import (
	"context"
	"time"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/sign"
	"github.com/lirios/ostree-upload/internal/wire"
)

// How often a commit is tried to be signed, and the pause before the next try.
const (
	signTries = 3
	signPause = time.Second
)

// signCommits makes the server's signatures of the session's commits, which mergeMetas
// adds to their detached metadata before a ref moves. Nothing has changed yet: if one
// cannot be made, the session is open again.
func (a *apply) signCommits(ctx context.Context) error {
	keys := a.cfg.Keys()
	if keys == nil || !keys.Commits {
		return nil
	}
	if a.metas == nil {
		a.metas = make(map[ostree.Checksum][]byte)
	}
	a.signed = make(map[ostree.Checksum]bool)
	for _, c := range a.plan.commits {
		if err := a.signCommit(ctx, keys, c); err != nil {
			return err
		}
	}
	return nil
}

// signCommit adds a commit's signature to what the session brought for it, unless it
// bears that already.
func (a *apply) signCommit(ctx context.Context, keys *sign.Keys, c ostree.Checksum) error {
	commit, err := a.view.metadata(ostree.Name{Checksum: c, Type: ostree.CommitObject})
	if err != nil {
		return err
	}
	held, _, err := a.view.merged(c, nil)
	if err != nil {
		return err
	}
	meta, _, err := a.view.merged(c, a.metas[c])
	if err != nil {
		return err
	}
	signature, err := trySign(ctx, func() ([]byte, error) { return keys.SignCommit(ctx, commit, meta, held) })
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return outcomef(wire.Internal, "commit %s cannot be signed, and is not published without: %v", c, err)
	}
	if signature == nil {
		return nil
	}
	// In front: gpg gives up at the first bad signature that claims to be of a key it has.
	if meta, err = ostree.MergeCommitMeta(signature, a.metas[c]); err == nil {
		_, _, err = a.view.merged(c, meta)
	}
	if err != nil {
		return outcomef(wire.Policy, "commit %s: there is no room for the server's signature: %v", c, err)
	}
	a.metas[c], a.signed[c] = meta, true
	return nil
}

// trySign tries again what may pass, such as an agent that is about to start, but not what
// hangs.
func trySign(ctx context.Context, do func() ([]byte, error)) (signature []byte, err error) {
	began := time.Now()
	for try := 1; ; try++ {
		signature, err = do()
		if err == nil || try == signTries || time.Since(began) >= sign.Timeout || ctx.Err() != nil {
			return signature, err
		}
		select {
		case <-ctx.Done():
		case <-time.After(signPause):
		}
	}
}
