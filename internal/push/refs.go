// SPDX-License-Identifier: AGPL-3.0-or-later

package push

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/lirios/ostree-upload/internal/hint"
	"github.com/lirios/ostree-upload/internal/ostree"
)

// A local is what is pushed to one ref of the server.
type local struct {
	name   string // as it is called here
	commit ostree.Checksum
}

// localRefs returns what to push, by the name of the server's ref: what was asked for,
// or all local refs.
func (r *run) localRefs() (map[string]local, error) {
	if len(r.opt.Refs) > 0 {
		return r.namedRefs()
	}
	refs, err := r.repo.Refs()
	if err == nil && len(refs) == 0 {
		err = r.noRefsError()
	}
	locals := make(map[string]local, len(refs))
	for name, commit := range refs {
		locals[name] = local{name, commit}
	}
	return locals, err
}

func (r *run) namedRefs() (map[string]local, error) {
	locals := make(map[string]local, len(r.opt.Refs))
	for _, spec := range r.opt.Refs {
		to, l, err := r.find(spec)
		if err != nil {
			return nil, err
		}
		if other, twice := locals[to]; twice && other.commit != l.commit {
			return nil, fmt.Errorf("ref %s of the server is to be both %s and %s", to, other.name, l.name)
		}
		locals[to] = l
	}
	return locals, nil
}

// A meaning is what REF, LOCAL:REMOTE, FROM:REF or FROM:REF:REMOTE may mean.
type meaning struct {
	local
	to      string // the server's ref
	says    string // in words
	written string // as it can be written without another meaning
}

// find finds what is pushed where, of what was asked for.
func (r *run) find(spec string) (to string, l local, err error) {
	meanings, err := r.meanings(spec)
	if err != nil {
		return "", local{}, err
	}
	switch len(meanings) {
	case 0:
		return "", local{}, r.noRefError(spec)
	case 1:
		return meanings[0].to, meanings[0].local, nil
	}
	a, b := meanings[0], meanings[1]
	if a.to == b.to && a.commit == b.commit {
		return a.to, a.local, nil
	}
	return "", local{}, hint.Add(fmt.Errorf("%s is both %s and %s", spec, a.says, b.says), "write %s or %s", a.written, b.written)
}

func (r *run) meanings(spec string) (list []meaning, err error) {
	before, last, _ := cutLast(spec)
	if list, err = r.ofPulled(spec, ""); err != nil { // FROM:REF
		return nil, err
	}
	for _, from := range []struct{ name, to string }{{spec, ""}, {before, last}} { // REF, LOCAL:REMOTE
		m, err := r.ofHead(from.name, from.to)
		if err != nil {
			return nil, err
		}
		list = append(list, m...)
	}
	m, err := r.ofPulled(before, last) // FROM:REF:REMOTE
	return append(list, m...), err
}

// cutLast cuts a word at its last colon.
func cutLast(spec string) (before, after string, found bool) {
	i := strings.LastIndexByte(spec, ':')
	if i < 0 {
		return "", "", false
	}
	return spec[:i], spec[i+1:], true
}

// ofHead is a local ref of a name, or refs/heads/NAME. It is pushed to its own name
// unless to is another.
func (r *run) ofHead(name, to string) ([]meaning, error) {
	for _, ref := range []string{name, strings.TrimPrefix(name, headsPrefix)} {
		commit, err := r.repo.Ref(ref)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("ref %s: %w", ref, err)
		}
		m := meaning{local: local{ref, commit}, to: cmp.Or(to, ref), written: headsPrefix + ref}
		m.says = "local ref " + ref
		if to != "" {
			m.says, m.written = m.says+" for ref "+to+" of the server", m.written+":"+to
		}
		return []meaning{m}, nil
	}
	return nil, nil
}

const headsPrefix = "refs/heads/"

// ofPulled are the refs FROM:REF that were pulled from a remote or of a collection, or
// the one at a path such as refs/mirrors/FROM/REF.
func (r *run) ofPulled(name, to string) (list []meaning, err error) {
	pulled, err := r.repo.FindPulled(name)
	for _, p := range pulled {
		m := meaning{local: local{p.String(), p.Commit}, to: cmp.Or(to, p.Ref), written: p.Path()}
		m.says = "ref " + p.Ref + " that was pulled (" + p.Path() + ")"
		if to != "" {
			m.written += ":" + to
		}
		list = append(list, m)
	}
	return list, err
}

// noRefsError is the error of a repository without local refs.
func (r *run) noRefsError() error {
	pulled, err := r.repo.PulledRefs()
	if err != nil {
		return err
	}
	if len(pulled) == 0 {
		return hint.Add(fmt.Errorf("repository %s has no refs", r.opt.Repo),
			"commit something first: ostree commit --repo=%s --branch=REF FOLDER", hint.Word(r.opt.Repo))
	}
	err = fmt.Errorf("repository %s has no refs of its own, only refs that were pulled, and those are pushed if they are named: %s", r.opt.Repo, names(pulled))
	return hint.Add(err, "%s", r.nameHint(pulled[0]))
}

// noRefError is the error of something asked for that means nothing here.
func (r *run) noRefError(spec string) error {
	pulled, err := r.repo.PulledRefs()
	if err != nil {
		return err
	}
	for _, p := range pulled {
		if spec == p.Ref {
			return hint.Add(fmt.Errorf("repository %s has no ref %s of its own, but pulled one (%s)", r.opt.Repo, spec, p.Path()), "%s", r.nameHint(p))
		}
	}
	err = fmt.Errorf("repository %s has no ref %s", r.opt.Repo, spec)
	if before, last, found := cutLast(spec); found {
		err = fmt.Errorf("repository %s has no ref %s, and none that was pulled as %s:%s", r.opt.Repo, before, before, last)
	}
	return hint.Add(err, "see which there are: ostree refs --repo=%s", hint.Word(r.opt.Repo))
}

// nameHint is how a pulled ref is pushed.
func (r *run) nameHint(p ostree.PulledRef) string {
	words := []string{cmp.Or(r.opt.Program, "ostree-upload"), "push", "--repo", r.opt.Repo, p.String()}
	for i, w := range words {
		words[i] = hint.Word(w)
	}
	return "name it: " + strings.Join(words, " ")
}

// names lists the first few pulled refs.
func names(refs []ostree.PulledRef) string {
	var list []string
	for i, p := range refs {
		if i == maxNamed {
			list = append(list, "…")
			break
		}
		list = append(list, p.String())
	}
	return strings.Join(list, ", ")
}
