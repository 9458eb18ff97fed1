// SPDX-License-Identifier: AGPL-3.0-or-later

package publish

import (
	"context"
	"errors"
	"hash/maphash"
	"time"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/sign"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/journal"
)

// A signature takes some milliseconds, or seconds if a program has to ask elsewhere, and a
// session may bring a hundred thousand commits. So the server signs them before the
// session's turn, beside the publishes of others, and without the repository's lock. The
// signatures are in memory until the publish merges them; whoever starts after a kill makes
// them again. At the session's turn each commit must have them as its detached metadata is
// then, or the session is signed again before another turn.

const (
	// mostSigning is how many sessions are signed at a time, or wait for their turn with
	// their signatures in memory; of one token only one.
	mostSigning = 8
	// mostSigners is how many signatures are made at a time, for the sessions in turn.
	mostSigners = 4
	// mostSigned is of how many commits a session may bring new ones to sign.
	mostSigned = 200_000
)

// How often a commit is tried to be signed, and the pause before the next try.
const (
	signTries = 3
	signPause = time.Second
)

// signing makes the signatures of one session's commits.
type signing struct {
	*ahead
	keys  *sign.Keys
	known map[ostree.Checksum]signature // made for an earlier turn, perhaps of another state
	made  map[ostree.Checksum]signature // once it has ended
	stale bool                          // not all of them fit any more
	late  bool                          // its session is publishing: no other has to wait for it
}

// signature is what the server adds to the detached metadata of a commit: nothing, if all
// of its signatures were there in the state that it looked at.
type signature struct {
	meta []byte
	of   metaState
}

// metaState tells detached metadata apart, as it is in the repository and as the session
// would make it.
type metaState struct{ held, merged uint64 }

var metaSeed = maphash.MakeSeed()

// errUnsigned ends the turn of a session of which not all commits have the server's
// signatures.
var errUnsigned = errors.New("not all commits are signed")

// signed tells whether no signature has to be waited for before a session has its turn. It
// begins to make them if they can be, and not for a session that will be refused.
func (p *Publisher) signed(ctx context.Context, s *journal.Session, failed error) (bool, error) {
	before := p.signings[s.ID]
	if before != nil && !before.stale {
		return before.over(), nil
	}
	keys := p.cfg.Keys()
	if failed != nil || keys == nil || !keys.Commits || s.State == journal.Verifying && toBeHeld(s) {
		return true, nil
	}
	if !p.maySign(s) {
		return false, p.say(s, "waits for its commits to be signed, as those of others are")
	}
	sg := &signing{keys: keys, made: make(map[ostree.Checksum]signature), late: s.State == journal.Publishing}
	if before != nil && keys.Same(before.keys) {
		sg.known = before.made
	}
	id := s.ID
	sg.ahead = p.begin(s.Token, func() error { return p.sign(ctx, sg, id) })
	p.signings[id] = sg
	return false, nil
}

func (p *Publisher) maySign(s *journal.Session) bool {
	others := 0
	for id, sg := range p.signings {
		if id == s.ID || sg.late && sg.over() {
			continue
		}
		if sg.token == s.Token {
			return false
		}
		others++
	}
	return others < mostSigning
}

// keepSignings forgets the signatures of sessions that have ended or are open again.
func (p *Publisher) keepSignings(live []journal.Session) {
	states := make(map[string]journal.State)
	for _, s := range live {
		states[s.ID] = s.State
	}
	for id, sg := range p.signings {
		state, is := states[id]
		sg.late = state == journal.Publishing
		if !is && sg.over() {
			delete(p.signings, id)
		}
	}
}

// sign makes the signatures of one session that are not known. The error is an *Outcome if
// the session is refused.
func (p *Publisher) sign(ctx context.Context, sg *signing, id string) error {
	s, err := p.cfg.Journal.Session(id)
	if err != nil {
		return err
	}
	ctx, stop := p.whileVerifying(ctx, &s)
	defer stop()
	if s.State == journal.Verifying {
		allowed, stop := p.whileAllowed(ctx, &s)
		defer stop()
		ctx = allowed
	}
	if err = p.signAll(ctx, sg, &s); ctx.Err() != nil {
		return context.Cause(ctx)
	}
	sg.known = nil
	return err
}

func (p *Publisher) signAll(ctx context.Context, sg *signing, s *journal.Session) error {
	a, err := p.toSign(ctx, s)
	if err != nil {
		return err
	}
	tell := teller{p, s, time.Now()}
	for i, c := range a.plan.commits {
		if sg.made[c], err = p.signature(ctx, sg, a, c); err != nil {
			return err
		}
		tell.tell("its commits are being signed: %d of %d are done", i+1, len(a.plan.commits))
	}
	return nil
}

// toSign is a session's publish as far as its signatures need it.
func (p *Publisher) toSign(ctx context.Context, s *journal.Session) (*apply, error) {
	defer p.cfg.Hold()()
	a, _, err := p.verifyAhead(ctx, s)
	if err != nil {
		return nil, err
	}
	if n := len(a.plan.commits); n > mostSigned {
		return nil, outcomef(wire.Policy, "the session brings %d commits, and this server signs at most %d of one; push an older commit of the ref first", n, mostSigned)
	}
	a.plan.lineage.nodes = nil // which are many, and stay no longer than they have to
	return a, nil
}

// signature makes the signature of a commit, unless the known one still fits.
func (p *Publisher) signature(ctx context.Context, sg *signing, a *apply, c ostree.Checksum) (made signature, err error) {
	held, meta, err := a.metasOf(c)
	if err != nil {
		return made, err
	}
	made.of = stateOf(held, meta)
	if known, is := sg.known[c]; is && known.of == made.of {
		return known, nil
	}
	commit, err := a.view.metadata(ostree.Name{Checksum: c, Type: ostree.CommitObject})
	if err != nil {
		return made, err
	}
	made.meta, err = trySign(ctx, func() ([]byte, error) {
		if err := p.signers.Acquire(ctx, 1); err != nil {
			return nil, err
		}
		defer p.signers.Release(1)
		return sg.keys.SignCommit(ctx, commit, meta, held)
	})
	if err != nil {
		err = outcomef(wire.Internal, "commit %s cannot be signed, and is not published without: %v", c, err)
	}
	return made, err
}

// metasOf is the detached metadata of a commit: what the repository has, and what that will
// be with what the session brings.
func (a *apply) metasOf(c ostree.Checksum) (held, meta []byte, err error) {
	if held, _, err = a.view.merged(c, nil); err == nil {
		meta, _, err = a.view.merged(c, a.metas[c])
	}
	return held, meta, err
}

func stateOf(held, meta []byte) metaState {
	return metaState{maphash.Bytes(metaSeed, held), maphash.Bytes(metaSeed, meta)}
}

// addSignatures adds the server's signatures to the detached metadata that mergeMetas
// merges before a ref moves. The error is errUnsigned if they are not all there.
func (a *apply) addSignatures() error {
	keys := a.cfg.Keys()
	if keys == nil || !keys.Commits {
		return nil
	}
	if a.signing == nil || !keys.Same(a.signing.keys) {
		return errUnsigned
	}
	if a.metas == nil {
		a.metas = make(map[ostree.Checksum][]byte)
	}
	a.signed = make(map[ostree.Checksum]bool)
	for _, c := range a.plan.commits {
		if err := a.addSignature(c); err != nil {
			return err
		}
	}
	return nil
}

func (a *apply) addSignature(c ostree.Checksum) error {
	held, meta, err := a.metasOf(c)
	if err != nil {
		return err
	}
	made, is := a.signing.made[c]
	if !is || made.of != stateOf(held, meta) {
		return errUnsigned
	}
	if made.meta == nil {
		return nil
	}
	// In front: gpg gives up at the first bad signature that claims to be of a key it has.
	if meta, err = ostree.MergeCommitMeta(made.meta, a.metas[c]); err == nil {
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
