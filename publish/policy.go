// SPDX-License-Identifier: AGPL-3.0-or-later

package publish

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/policy"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/journal"
)

// checkPolicy refuses a session that would move a ref to a commit that too few keys have
// signed. What counts are the signatures that the repository has of it, and those of the
// session that are to be merged. One that was let through before a crash is not refused
// now.
func (a *apply) checkPolicy() error {
	if a.plan.session.State == journal.Publishing {
		return nil
	}
	return newSigners(a.cfg, a.view, a.metas).check(a.plan)
}

// signers asks of commits who has signed them.
type signers struct {
	policies []config.Policy
	view     *view
	metas    map[ostree.Checksum][]byte // detached metadata that comes to what is there
	aliases  []ostree.Alias
	keys     map[string]*policy.Keys // by the name of their policy
	good     map[signed]bool
	early    *early // nil at the turn
}

// early is a look before a session brings anything. It lets through what is not known, as
// there is another look at the turn.
type early struct {
	commits map[ostree.Checksum][]byte // with all signatures that the session will bring
	all     bool                       // it will bring none: those of the repository, too
	looked  int
}

// signed is a commit that satisfies a policy.
type signed struct {
	policy string
	commit ostree.Checksum
}

func newSigners(cfg Config, v *view, metas map[ostree.Checksum][]byte) *signers {
	return &signers{policies: cfg.Policy(), view: v, metas: metas, keys: make(map[string]*policy.Keys), good: make(map[signed]bool)}
}

// CheckSigned refuses a session that would move refs to commits that too few keys have
// signed, as far as that can be told before it is opened: by commits that are given, which
// must be what they go by, and their detached metadata. The error is an *Outcome then.
func (p *Publisher) CheckSigned(req *wire.OpenRequest, given, metas map[ostree.Checksum][]byte) error {
	repo, err := p.production.read()
	if err != nil {
		return err
	}
	s := newSigners(p.cfg, &view{repo: repo}, metas)
	s.early = &early{commits: given, all: req.Promote}
	return s.check(&plan{session: &journal.Session{Refs: req.Refs}})
}

// check is an *Outcome if a ref is to move to a commit that does not satisfy each policy
// that concerns it, or an alias of it: that moves as well.
func (s *signers) check(pl *plan) (err error) {
	if len(s.policies) == 0 {
		return nil
	}
	if s.aliases, err = s.view.repo.Aliases(); err != nil {
		return err
	}
	for _, r := range pl.session.Refs {
		if r.New == r.Old || r.New == "" {
			continue // what is there only gets signatures, or is deleted
		}
		if err := s.move(pl, r); err != nil {
			return err
		}
	}
	return nil
}

// move looks at the move of one ref.
func (s *signers) move(pl *plan, r wire.Ref) error {
	names := s.names(r.Ref)
	for _, p := range s.policies {
		at := slices.IndexFunc(names, p.Concerns)
		if at < 0 {
			continue
		}
		if at > 0 {
			r.Ref = fmt.Sprintf("%s, of which %s is an alias", names[0], names[at])
		}
		if err := s.ref(pl, r, p); err != nil {
			return err
		}
	}
	return nil
}

// names are the name of a ref, and those of its aliases, and of theirs.
func (s *signers) names(ref string) []string {
	names := []string{ref}
	for i := 0; i < len(names); i++ {
		for _, a := range s.aliases {
			if a.Target == names[i] && !slices.Contains(names, a.Name) {
				names = append(names, a.Name)
			}
		}
	}
	return names
}

// ref looks at the commit that a ref is moved to and, if the policy says so, at those
// below it that the session brings.
func (s *signers) ref(pl *plan, r wire.Ref, p config.Policy) error {
	tip, err := ostree.ParseChecksum(r.New)
	if err != nil {
		return err
	}
	if err := s.commit(r.Ref, p, tip); err != nil || !p.History {
		return err
	}
	for n := pl.lineage.nodes[tip]; n != nil && n.commit.HasParent && n.commit.Parent.String() != r.Old; {
		if n = pl.lineage.nodes[n.commit.Parent]; n == nil || !pl.sent[n.sum] {
			continue
		}
		if err := s.commit(r.Ref, p, n.sum); err != nil {
			return err
		}
	}
	return nil
}

func (s *signers) commit(ref string, p config.Policy, c ostree.Checksum) error {
	if s.good[signed{p.Name, c}] {
		return nil
	}
	keys, err := s.load(p)
	if err != nil {
		return err
	}
	commit, err := s.object(c)
	if commit == nil || err != nil {
		return err
	}
	meta, _, err := s.view.merged(c, s.metas[c])
	if err != nil {
		return err
	}
	err = keys.Check(commit, meta, time.Now())
	if lacking := new(policy.LackingError); errors.As(err, &lacking) {
		return outcomef(wire.Policy, "ref %s, commit %s: %v; let the others sign it, by `ostree gpg-sign` or `ostree sign`, and push it again", ref, c, lacking)
	}
	s.good[signed{p.Name, c}] = err == nil
	return err
}

// object reads a commit; nil if it is too early to tell who has signed it.
func (s *signers) object(c ostree.Checksum) ([]byte, error) {
	if s.early == nil {
		return s.view.metadata(ostree.Name{Checksum: c, Type: ostree.CommitObject})
	}
	if s.early.looked++; s.early.looked > wire.MaxSigned {
		return nil, nil
	}
	if b := s.early.commits[c]; b != nil || !s.early.all {
		return b, nil
	}
	b, err := s.view.metadata(ostree.Name{Checksum: c, Type: ostree.CommitObject})
	if errors.Is(err, errAbsent) {
		return nil, nil
	}
	return b, err
}

// load reads the keys of a policy. Without them nothing is published: whoever finalizes
// the session again, once the operator has mended it, goes on.
func (s *signers) load(p config.Policy) (*policy.Keys, error) {
	if k := s.keys[p.Name]; k != nil {
		return k, nil
	}
	k, err := policy.Load(p)
	if err != nil {
		return nil, outcomef(wire.Internal, "who signed it cannot be told, and so it is not published: %v", err)
	}
	s.keys[p.Name] = k
	return k, nil
}
