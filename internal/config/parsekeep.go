// SPDX-License-Identifier: AGPL-3.0-or-later

package config

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	"gopkg.in/yaml.v3"

	"github.com/lirios/ostree-upload/internal/token"
	"github.com/lirios/ostree-upload/internal/units"
)

// Keep says which commits the refs of some names keep besides their own: of the
// history behind it, from parent to parent, those for which one of the two holds,
// up to the first for which neither does.
type Keep struct {
	Refs        []string       // globs
	Depth       int            // so many parents, or KeepAll
	YoungerThan units.Duration // those made within this time; 0: none for that
}

// KeepAll is the Depth of refs that keep their whole history.
const KeepAll = -1

// Concerns tells whether a ref is one of these.
func (k *Keep) Concerns(ref string) bool {
	return slices.ContainsFunc(k.Refs, func(g string) bool { return token.MatchGlob(g, ref) })
}

// keepForm is one entry of the list keep.
type keepForm struct {
	Refs        yaml.Node `yaml:"refs"`
	Depth       yaml.Node `yaml:"depth"`
	YoungerThan yaml.Node `yaml:"younger-than"`
}

// keeps checks the list keep. Without a list nothing is ever removed; by an empty one
// the refs keep all, and what no ref reaches is removed.
func (p *parser) keeps(forms []keepForm) (keeps []Keep) {
	if forms != nil {
		keeps = []Keep{}
	}
	for i := range forms {
		keeps = append(keeps, p.keep(&forms[i], fmt.Sprintf("keep %d", i+1)))
	}
	return keeps
}

// keep reads one entry; what is faulty in it stays empty.
func (p *parser) keep(f *keepForm, key string) (k Keep) {
	refs, there := p.list(&f.Refs, key+": refs", token.CheckGlob)
	first := present(&f.Refs, &f.Depth, &f.YoungerThan)
	switch {
	case !there:
		p.errorf(first, key, "%w", errors.New(`needs refs: globs of the refs that it is for, such as ["**"] for all`))
	case len(f.Refs.Content) == 0 && f.Refs.Kind == yaml.SequenceNode:
		p.errorf(first, key, "%w", errors.New(`is for no ref; refs: ["**"] are all`))
	}
	k.Refs = refs
	if f.Depth.Kind == 0 && f.YoungerThan.Kind == 0 {
		p.errorf(first, key, "%w", errors.New("needs depth, younger-than or both; depth: 0 keeps only the commit that a ref names, depth: -1 all of its history"))
	}
	parsed(p, &f.Depth, key+": depth", &k.Depth, parseDepth)
	p.duration(&f.YoungerThan, key+": younger-than", &k.YoungerThan)
	return k
}

func parseDepth(s string) (int, error) {
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil || n < KeepAll {
		return 0, fmt.Errorf("%q is not a number of parents such as 10, or -1 for all", s)
	}
	return int(n), nil
}
