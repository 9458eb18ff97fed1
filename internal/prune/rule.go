// SPDX-License-Identifier: AGPL-3.0-or-later

package prune

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"time"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/ostree"
)

// The rule decides which commits the refs keep. It asks for commits and knows nothing
// of where they are, nor of how others are removed.

// A ref is one that keeps commits.
type ref struct {
	tip ostree.Checksum
	// only says that the tip is all that it keeps: an alias, whose history is kept as
	// the ref asks for which it stands.
	only bool
	// all says that it keeps its whole history, whatever the configuration says: a ref
	// of a remote or a mirror.
	all bool
}

// aheadAtMost is how far in the future a commit's time may be. A time that is farther
// away is wrong, and would keep the commit for ever.
const aheadAtMost = 24 * time.Hour

// history is what is known of commits, each read once.
type history struct {
	read  func(ostree.Checksum) (*ostree.Commit, error) // fs.ErrNotExist: it is not there
	known map[ostree.Checksum]*past
}

// past is what the rule needs of a commit.
type past struct {
	parent ostree.Checksum
	has    bool // it has a parent, here or not
	time   uint64
}

func newHistory(read func(ostree.Checksum) (*ostree.Commit, error)) *history {
	return &history{read: read, known: make(map[ostree.Checksum]*past)}
}

// commit is nil if there is no such commit.
func (h *history) commit(c ostree.Checksum) (*past, error) {
	if p, ok := h.known[c]; ok {
		return p, nil
	}
	commit, err := h.read(c)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // it may come
	}
	if err != nil {
		return nil, fmt.Errorf("commit %s: %w", c, err)
	}
	p := &past{parent: commit.Parent, has: commit.HasParent, time: commit.Time}
	h.known[c] = p
	return p, nil
}

// isBad tells of a commit that is damaged, rather than that it cannot be read.
func isBad(err error) bool { return errors.As(err, new(*ostree.BadObjectError)) }

// forget forgets a commit that was removed.
func (h *history) forget(c ostree.Checksum) { delete(h.known, c) }

// parent is the parent of a commit that is there itself, if that is there.
func (h *history) parent(c ostree.Checksum) (parent ostree.Checksum, there bool, err error) {
	p, err := h.commit(c)
	if err != nil || p == nil || !p.has {
		return parent, false, err
	}
	before, err := h.commit(p.parent)
	return p.parent, before != nil, err
}

// kept marks the commits that refs keep.
type kept struct {
	*history
	now   time.Time
	rules []config.Keep
	stay  map[ostree.Checksum]string // each of them, and a ref that keeps it
	// left is for each rule how many more parents of a commit it keeps, as far as was
	// seen: what was marked by as much is not walked again, however many refs lead there.
	left map[*config.Keep]map[ostree.Checksum]int
}

var (
	keepAll = &config.Keep{Depth: config.KeepAll}
	keepTip = &config.Keep{}
)

// keptBy marks what refs keep by the first of the rules that concerns each.
func keptBy(h *history, refs map[string]ref, rules []config.Keep, now time.Time) (map[ostree.Checksum]string, error) {
	k := &kept{
		history: h, now: now, rules: rules,
		stay: make(map[ostree.Checksum]string), left: make(map[*config.Keep]map[ostree.Checksum]int),
	}
	for name, r := range refs {
		if err := k.mark(name, r.tip, k.ruleOf(name, r)); err != nil {
			return nil, err
		}
	}
	return k.stay, nil
}

func (k *kept) ruleOf(name string, r ref) *config.Keep {
	switch {
	case r.only:
		return keepTip
	case r.all:
		return keepAll
	}
	for i := range k.rules {
		if k.rules[i].Concerns(name) {
			return &k.rules[i]
		}
	}
	return keepAll
}

// mark marks what one ref keeps by its rule: the tip, and the history up to the first
// commit that is both too far away and too old.
func (k *kept) mark(name string, c ostree.Checksum, rule *config.Keep) error {
	seen := k.left[rule]
	if seen == nil {
		seen = make(map[ostree.Checksum]int)
		k.left[rule] = seen
	}
	left := rule.Depth
	if left == config.KeepAll {
		left = math.MaxInt
	}
	for {
		if before, ok := seen[c]; ok && before >= left {
			return nil
		}
		seen[c] = left
		if _, marked := k.stay[c]; !marked {
			k.stay[c] = "ref " + name
		}
		parent, there, err := k.parent(c)
		if left == 0 && isBad(err) { // it goes, whatever its time was
			return nil
		}
		if err != nil || !there || left == 0 && !k.young(parent, rule) {
			return err
		}
		if c = parent; rule.Depth != config.KeepAll {
			left = max(0, left-1)
		}
	}
}

// young tells whether a commit that was read is younger than the rule asks for.
func (k *kept) young(c ostree.Checksum, rule *config.Keep) bool {
	made := k.known[c].time
	if rule.YoungerThan == 0 || made > uint64(k.now.Add(aheadAtMost).Unix()) {
		return false
	}
	return int64(made) >= k.now.Add(-time.Duration(rule.YoungerThan)).Unix()
}
