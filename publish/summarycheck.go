// SPDX-License-Identifier: AGPL-3.0-or-later

package publish

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/lirios/ostree-upload/internal/durable"
	"github.com/lirios/ostree-upload/internal/ostree"
)

// seenSummary is the repository's summary as it is, and whose it is.
type seenSummary struct {
	summary, signature []byte // nil: not there
	mine               bool   // the server is to write it
	why                string // it is left to another program although clients read it; "" also if a work writes it
}

// unfit is what is wrong with a summary, in words; "" for nothing.
type unfit struct {
	refs, signature string
	differ          []string // the refs that it shows elsewhere; none if it is damaged
}

// lookAt compares the summary with the refs, but for some, and with the server's keys. A
// repository with a damaged ref is not compared: libostree makes no summary of it.
func lookAt(ctx context.Context, cfg Config, p production, but map[string]bool) (seen seenSummary, is unfit, err error) {
	seen, err = p.seeSummary(ctx)
	if err != nil {
		return seen, is, err
	}
	if keys := cfg.Keys(); keys != nil && seen.mine {
		if is.signature, err = unsigned(ctx, cfg, seen); err != nil {
			return seen, is, err
		}
	}
	if seen.summary == nil {
		return seen, is, nil
	}
	is.refs, is.differ, err = misses(p, seen.summary, but)
	if err != nil || is.refs == "" {
		return seen, is, err
	}
	// Others may have written it while the refs were read.
	busy, err := p.publishing(ctx)
	if err != nil {
		return seen, is, err
	}
	again, err := p.seeSummary(ctx)
	if busy || !bytes.Equal(again.summary, seen.summary) {
		is.refs = ""
	}
	return seen, is, err
}

// unsigned tells what is wrong with the signature of a summary that is the server's to sign.
func unsigned(ctx context.Context, cfg Config, seen seenSummary) (string, error) {
	switch {
	case seen.summary == nil:
		return "there is no summary, which is to be signed", nil
	case seen.signature == nil:
		return "the summary is not signed (summary.sig is missing)", nil
	}
	lacks, err := cfg.Keys().Lacks(ctx, seen.summary, seen.signature)
	if err != nil || !lacks {
		return "", err
	}
	return "summary.sig lacks a signature of this summary by a key of the configuration (sign)", nil
}

// misses tells in what a summary differs from the refs, but for some.
func misses(p production, summary []byte, but map[string]bool) (text string, differ []string, err error) {
	shown, err := ostree.SummaryRefs(summary)
	if err != nil {
		return "the summary is damaged: " + err.Error(), nil, nil
	}
	repo, err := p.read()
	if err != nil {
		return "", nil, err
	}
	refs, err := repo.Refs()
	if errors.As(err, new(*ostree.BadRefError)) {
		return "", nil, nil // which is a finding of its own
	}
	if err != nil {
		return "", nil, err
	}
	for ref := range but {
		delete(refs, ref)
		delete(shown, ref)
	}
	text, differ = difference(refs, shown)
	return text, differ, nil
}

// difference names the first ref that a summary shows elsewhere, and how many there are.
func difference(refs, shown map[string]ostree.Checksum) (text string, differ []string) {
	all := maps.Clone(refs)
	maps.Copy(all, shown)
	for ref := range all {
		if nameOf(refs, ref) != nameOf(shown, ref) {
			differ = append(differ, ref)
		}
	}
	if len(differ) == 0 {
		return "", nil
	}
	first := slices.Min(differ)
	text = fmt.Sprintf("the summary has ref %s at %s, and it is at %s", first, orNone(nameOf(shown, first)), orNone(nameOf(refs, first)))
	if more := len(differ) - 1; more > 0 {
		text += fmt.Sprintf(" (and %d more refs that differ)", more)
	}
	return text, differ
}

// summary looks at the summary, but for refs that are findings themselves. That it does
// not show what a session published is a finding if it is the server's, and nothing is due
// that writes it. What others moved is a note, and so is what a start signs.
func (i *inspection) summary(ctx context.Context, cfg Config, p production) error {
	seen, is, err := lookAt(ctx, cfg, p, i.wrong)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		i.notes = append(i.notes, fmt.Sprintf("the summary cannot be compared with the refs and the keys: %v", err))
		return nil
	}
	if is.signature != "" {
		i.notes = append(i.notes, is.signature+"; clients that verify it refuse it until the next start, or check --repair, has signed it")
	}
	switch {
	case is.refs == "":
	case seen.mine && len(is.differ) > 0 && !slices.ContainsFunc(is.differ, func(ref string) bool { return i.placed[ref] }):
		i.notes = append(i.notes, is.refs+", where others moved it; clients that read it do not see that: ostree-upload check --repair writes it anew, as the next publish does")
	case seen.mine:
		i.findings = append(i.findings, is.refs+"; clients that read it do not see that: ostree-upload check --repair writes it anew, as the next publish does")
	default:
		i.notes = append(i.notes, fmt.Sprintf("%s; clients that read it do not see that, and it is left as it is: %s", is.refs, cmp.Or(seen.why, "a work that follows each publish writes it")))
	}
	return nil
}

// mendSummary writes the summary if it is the server's and does not fit. What keeps it from
// being written, such as a ref to a commit that is not there, is found by Inspect.
func (p *Publisher) mendSummary(ctx context.Context) error {
	seen, is, err := lookAt(ctx, p.cfg, p.production, nil)
	if err == nil && seen.mine && (is.refs != "" || is.signature != "") {
		err = p.production.writeSummary(ctx)
	}
	if ctx.Err() != nil || errors.Is(err, durable.ErrNotSynced) {
		return err
	}
	if err != nil {
		p.cfg.Log.Error("the summary cannot be mended now", "err", err)
	}
	return nil
}

func (d *disk) seeSummary(ctx context.Context) (seen seenSummary, err error) {
	d.summary.mu.Lock()
	defer d.summary.mu.Unlock()
	if seen.mine, seen.why, err = d.summary.look(ctx); err != nil {
		return seen, err
	}
	if seen.summary, err = readFile(d.summary.path()); err == nil {
		seen.signature, err = readFile(d.summary.path() + ".sig")
	}
	return seen, err
}

// publishing is false: whoever looks holds the lock that a server takes.
func (d *disk) publishing(context.Context) (bool, error) { return false, nil }

func (b *inBucket) seeSummary(ctx context.Context) (seen seenSummary, err error) {
	there, err := b.readSummary(ctx)
	if err != nil {
		return seen, err
	}
	seen.mine, seen.why, err = b.ours(ctx, there, b.cfg.Keys())
	seen.summary, seen.signature = there.summary, there.signature
	return seen, err
}

// publishing tells whether another server is at a publish, which ends with a summary.
func (b *inBucket) publishing(ctx context.Context) (bool, error) {
	marks, err := b.Publishing(ctx)
	return len(marks) > 0, err
}
