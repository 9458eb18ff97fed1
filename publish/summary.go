// SPDX-License-Identifier: AGPL-3.0-or-later

package publish

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/lirios/ostree-upload/internal/libostree"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/sign"
)

// Summary tells when a publish writes the repository's summary anew.
type Summary string

// Auto keeps up a summary that exists and that nobody else has a hand in, or that the
// repository's own settings ask for, or that is to be signed. Always also writes the
// first one, and one with keys of others. Neither takes a signature away, but that Always
// puts the server's own in the place of another.
const (
	Auto   Summary = "auto"
	Always Summary = "always"
	Never  Summary = "never"
	// First is Auto that also writes the first one, and Elsewhere Never where a work
	// writes it, so that nothing is wrong.
	First     Summary = "first"
	Elsewhere Summary = "elsewhere"
)

// ours are the keys that ostree_repo_regenerate_summary writes by itself. Any
// other would be lost.
var ours = []string{
	"ostree.static-deltas",
	"ostree.summary.collection-id",
	"ostree.summary.collection-map",
	"ostree.summary.indexed-deltas",
	"ostree.summary.last-modified",
	"ostree.summary.mode",
	"ostree.summary.tombstone-commits",
}

// summary decides for each publish whether the repository's summary is ours to
// write. It may be used by many goroutines.
type summary struct {
	repo    string
	setting func() Summary
	keys    func() *sign.Keys // nil: it is not signed
	mu      sync.Mutex        // of what follows, and of the files
	// kept is why it was left to another program once. One that signs takes the
	// signature away for a moment, in which nobody else may write.
	kept     string
	known    pair // that this server wrote last, or found at its start: no signature is to follow
	good     pair // that bears the signatures of by
	by       *sign.Keys
	signTime time.Duration
}

// A pair is a summary and its signature, as they lie on the disk; nil: not there.
type pair struct{ summary, signature fs.FileInfo }

func newSummary(repo string, setting func() Summary, keys func() *sign.Keys) *summary {
	return &summary{repo: repo, setting: setting, keys: keys, signTime: signTime}
}

// look tells whether to write the summary, and if not although clients read it,
// why.
func (s *summary) look(ctx context.Context) (write bool, why string, err error) {
	setting, keys := s.setting(), s.keys()
	if setting == Elsewhere {
		return false, "", nil
	}
	there, err := exists(s.repo, "summary")
	if err != nil {
		return false, "", err
	}
	if setting == Never {
		if there {
			why = "the server's configuration says never"
		}
		return false, why, nil
	}
	kept, err := s.keptByOthers(ctx, setting, keys)
	if err != nil {
		return false, "", err
	}
	if kept != "" {
		s.kept = kept
	}
	switch {
	case s.kept != "":
		return false, s.kept, nil
	case setting == Always, !there && setting == First:
		return true, "", nil
	case !there:
		repo, err := ostree.OpenRepo(s.repo)
		return err == nil && (keys != nil || repo.AutoUpdateSummary()), "", err
	}
	foreign, err := foreignKey(s.repo)
	if err != nil || foreign != "" {
		return false, foreign, err
	}
	return true, "", nil
}

// keptByOthers tells why the summary has to be left to another program, "" if it has
// not. Writing it would remove its signature, and leave the index as it was, which
// Flatpak's clients read instead of it.
func (s *summary) keptByOthers(ctx context.Context, setting Summary, keys *sign.Keys) (why string, err error) {
	index, err := exists(s.repo, "summary.idx")
	if err != nil {
		return "", err
	}
	if index {
		return "it has an index for Flatpak (summary.idx), which can only be written together with it", nil
	}
	if keys != nil && setting == Always {
		s.kept = ""
		return "", nil
	}
	signature, err := readFile(s.path() + ".sig")
	switch {
	case err != nil:
		return "", err
	case signature == nil:
		return "", nil
	case keys == nil:
		return "it is signed (summary.sig), and the key is not here", nil
	}
	ours, err := s.signedHere(ctx, keys, signature)
	if err != nil {
		return "", err
	}
	if !ours {
		return "it is signed (summary.sig), and by none of this server's keys; with `summary: always` it would be signed by these", nil
	}
	s.kept = "" // whoever signs with another key has ceased to
	return "", nil
}

// signedHere tells whether a summary.sig is the server's own, or that of another program
// which signs with one of its keys.
func (s *summary) signedHere(ctx context.Context, keys *sign.Keys, signature []byte) (bool, error) {
	now, err := s.stat()
	if err != nil || s.by != nil && now.is(s.good) || sign.Own(signature) {
		return err == nil, err
	}
	b, err := readFile(s.path())
	if err != nil {
		return false, err
	}
	return keys.Any(ctx, b, signature)
}

// foreignKey tells of a key in the summary that another program has put there.
func foreignKey(repo string) (why string, err error) {
	b, err := os.ReadFile(filepath.Join(repo, "summary"))
	if err != nil {
		return "", err
	}
	for _, key := range libostree.SummaryKeys(b) {
		if !slices.Contains(ours, key) {
			return "it holds the foreign key " + key, nil
		}
	}
	return "", nil
}

func exists(repo, name string) (bool, error) {
	_, err := os.Lstat(filepath.Join(repo, name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// mostDrafts is how often a summary is made that another program has written meanwhile.
const mostDrafts = 3

// write writes the summary if that is ours to do, and signs it: at one rename, so that
// clients that read it see all refs of a session change at once. If it is left as it is
// although clients read it, it tells why.
func (s *summary) write(ctx context.Context, repo *libostree.Repo) (why string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for range mostDrafts {
		write, why, err := s.look(ctx)
		if err != nil || !write {
			return why, err
		}
		placed, err := s.replace(ctx, repo)
		if err != nil || placed {
			return "", err
		}
	}
	return "", errors.New("other programs write the summary all the time")
}

// replace makes a draft and places it, unless the summary is no longer what it was.
func (s *summary) replace(ctx context.Context, repo *libostree.Repo) (placed bool, err error) {
	d, err := s.draft(ctx, repo, s.keys())
	defer func() { err = errors.Join(err, d.drop()) }()
	if err != nil {
		return false, err
	}
	// Who writes it takes the shared lock: nobody begins to between the look and here.
	unlock, err := lockAlone(repo)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if err := s.awaitSignature(ctx); err != nil {
		return false, err
	}
	write, _, err := s.look(ctx)
	if err != nil || !write {
		return false, err
	}
	now, err := s.stat()
	if err != nil || !sameFile(now.summary, d.before) {
		return false, err
	}
	if err := d.place(s.repo); err != nil {
		return false, err
	}
	s.known, err = s.stat()
	s.good, s.by = s.known, d.keys
	return true, err
}

// wrong tells whether the summary is the server's to sign and lacks its signature, as
// after another program wrote it, or a crash between the two files.
func (s *summary) wrong(ctx context.Context) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	keys := s.keys()
	now, err := s.stat()
	if err != nil || keys == nil || now.summary != nil && now.is(s.good) && keys.Same(s.by) {
		return false, err
	}
	if write, _, err := s.look(ctx); err != nil || !write {
		return false, err
	}
	b, err := readFile(s.path())
	if err != nil {
		return false, err
	}
	signature, err := readFile(s.path() + ".sig")
	if err != nil || b == nil || signature == nil {
		return err == nil, err
	}
	signed, err := keys.All(ctx, b, signature)
	if err == nil && signed {
		s.good, s.by = now, keys
	}
	return !signed, err
}

// signTime is how long after another program wrote the summary its signature may
// follow. libostree holds no lock in between, and signs what it wrote: a summary that
// is written meanwhile would be there with a bad signature, or without.
const signTime = 2 * time.Second

// awaitSignature waits until a summary that another program has just written is
// signed, or old enough to stay unsigned.
func (s *summary) awaitSignature(ctx context.Context) error {
	for began := time.Now(); time.Since(began) < s.signTime; time.Sleep(20 * time.Millisecond) {
		now, err := s.stat()
		if err != nil || now.summary == nil {
			return err
		}
		if sameFile(now.summary, s.known.summary) || now.signature != nil || time.Since(now.summary.ModTime()) > s.signTime {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

// stat looks at the pair that is there.
func (s *summary) stat() (p pair, err error) {
	if p.summary, err = statFile(s.path()); err != nil {
		return p, err
	}
	p.signature, err = statFile(s.path() + ".sig")
	return p, err
}

func (p pair) is(other pair) bool {
	return sameFile(p.summary, other.summary) && sameFile(p.signature, other.signature)
}

// sameFile tells whether a file was neither replaced nor written to.
func sameFile(a, b fs.FileInfo) bool {
	if a == nil || b == nil {
		return a == b
	}
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

func readFile(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

func (s *summary) path() string { return filepath.Join(s.repo, "summary") }

// begin looks at the summary that a start finds: no signature is to follow. It tells in
// the log, before there is a publish, that clients of the summary will not see it.
func (s *summary) begin(ctx context.Context, log *slog.Logger) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, why, err := s.look(ctx)
	if err == nil {
		s.known, err = s.stat()
	}
	if err != nil {
		log.Warn("cannot look at the repository's summary", "err", err)
	}
	if why != "" {
		log.Warn("the repository's summary is left as it is; clients that read it will not see new commits until it is updated", "reason", why)
	}
}
