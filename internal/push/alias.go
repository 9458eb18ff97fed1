// SPDX-License-Identifier: AGPL-3.0-or-later

package push

import (
	"fmt"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
)

// maxAliases bounds how many aliases are followed that stand for each other.
const maxAliases = 40

// named is the ref of the server that a name stands for: itself unless it is an alias.
func (r *run) named(name string, follow bool) (string, error) {
	ref := name
	for range maxAliases {
		target := r.serverRefs[ref].Alias
		switch {
		case target == "":
			return ref, nil
		case !follow:
			return "", aliasError(fmt.Sprintf("name %s instead, or give --follow-alias", target), "ref %s is an alias of %s on the server", ref, target)
		case ostree.ValidateRef(target) != nil:
			return "", aliasError("have the alias removed there: ostree refs --delete "+ref, "ref %s is an alias of %s on the server, which is no ref", ref, target)
		}
		ref = target
	}
	return "", aliasError("have it removed there: ostree refs --delete "+name, "ref %s is an alias that leads to itself on the server", name)
}

func aliasError(hint, format string, args ...any) *Error {
	return &Error{Exit: ExitRefused, Code: wire.Policy, Err: fmt.Errorf(format, args...), HintText: hint}
}

// atTargets has what is pushed to an alias of the server pushed to the ref that it stands
// for.
func (r *run) atTargets(pushed map[string]local) (map[string]local, error) {
	if !r.opt.FollowAlias {
		return pushed, nil
	}
	refs := make(map[string]local, len(pushed))
	from := map[string]string{}
	for name, what := range pushed {
		ref, err := r.named(name, true)
		if err != nil {
			return nil, err
		}
		if before, twice := from[ref]; twice && refs[ref].commit != what.commit {
			return nil, aliasError("push one of them", "refs %s and %s are both ref %s on the server, and differ here", min(before, name), max(before, name), ref)
		}
		refs[ref], from[ref] = what, name
	}
	return refs, nil
}
