// SPDX-License-Identifier: AGPL-3.0-or-later

package publish

import (
	"context"
	"log/slog"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/journal"
)

// production is the repository that is published to. It may be used by many goroutines.
type production interface {
	// read opens it to be read, with its configuration as it is now.
	read() (*ostree.Repo, error)
	// readAll opens it for a session that relies on what it did not bring, before look:
	// also what another server has brought.
	readAll() (*ostree.Repo, error)
	// change opens it to be changed by the publish of a session, which reads v. The
	// caller closes it.
	change(s *journal.Session, v *view) (change, error)
	// later tells whether what failed may succeed if it is only tried again. What the
	// session is to say meanwhile is "" if it says it already.
	later(err error) (is bool, say string)
	// passed tells whether a session that is publishing has moved a ref, and somebody else
	// moved that on before the session knew.
	passed(s *journal.Session, r wire.Ref) (bool, error)
	// undo moves back what a session that is publishing has moved of its refs, as not all
	// can move. It names those that others have moved on since. It may be repeated.
	undo(ctx context.Context, s *journal.Session) (stay []string, err error)
	// tidy takes away what a process before left in mid-air.
	tidy(log *slog.Logger) error
	summaryFile
}

// summaryFile is the repository's summary, and what signs it.
type summaryFile interface {
	// writeSummary writes it, unless it is not ours to write, and makes it durable.
	writeSummary(ctx context.Context) error
	// wrongSummary tells whether it is the server's to sign and lacks its signature.
	wrongSummary(ctx context.Context) (bool, error)
	// seeSummary reads it, and tells whose it is.
	seeSummary(ctx context.Context) (seenSummary, error)
	// publishing tells whether another server moves refs, and writes it then.
	publishing(ctx context.Context) (bool, error)
}

// change is the production repository while one publish changes it from the staging.
// Everything that a publish does to it is a method, may be repeated, and is durable only
// after the next sync.
type change interface {
	// lock keeps those away until unlock who remove objects.
	lock(ctx context.Context) (unlock func() error, err error)
	// look asks where a closure's objects are, if looking at the repository does not tell.
	look(ctx context.Context, c *closure, commits []ostree.Checksum) error
	// importTree brings in all objects of a closure but the commits.
	importTree(ctx context.Context, c *closure) error
	importCommits(ctx context.Context, commits []ostree.Checksum) error
	// writeMeta replaces a commit's detached metadata.
	writeMeta(ctx context.Context, c ostree.Checksum, meta []byte) error
	// revive removes the marks of a commit that was deleted or incomplete.
	revive(ctx context.Context, c ostree.Checksum) error
	// prepareRefs makes ready what moves the refs. The caller drops what is left of it,
	// also after an error.
	prepareRefs(s *journal.Session) (moves, error)
	// follow writes the summary within the publish. If it is left as it is although
	// clients read it, it tells why.
	follow(ctx context.Context) (why string, err error)
	sync() error
	close()
}

// moves are the refs of a session, ready to move.
type moves interface {
	// alone keeps others from moving refs until unlock, as far as that can be.
	alone() (unlock func() error, err error)
	// apply moves the refs. It may be repeated after a crash, beginning with prepareRefs.
	apply(ctx context.Context) error
	drop() error
}

func productionOf(cfg Config) production {
	if cfg.Mirror != nil {
		return &inBucket{Mirror: cfg.Mirror, cfg: cfg}
	}
	return newDisk(cfg)
}

// waits has a session say what it waits for.
func (p *Publisher) waits(id, text string) error {
	s, err := p.cfg.Journal.Session(id)
	if err != nil || text == "" || s.State.Final() {
		return err
	}
	return p.say(&s, text)
}
