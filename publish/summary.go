// SPDX-License-Identifier: AGPL-3.0-or-later

package publish

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/lirios/ostree-upload/internal/fault"
	"github.com/lirios/ostree-upload/internal/libostree"
	"github.com/lirios/ostree-upload/internal/ostree"
)

// Summary tells when a publish writes the repository's summary anew.
type Summary string

// Auto keeps up a summary that exists and that nobody else has a hand in, or that
// the repository's own settings ask for. Always also writes the first one, and one
// with keys of others, but neither takes a signature away.
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
// write. One goroutine uses it.
type summary struct {
	repo    string
	setting func() Summary
	// kept is why it was left to another program once. One that signs takes the
	// signature away for a moment, in which nobody else may write.
	kept string
	// known is the summary that this server wrote last or met at its start.
	known    fs.FileInfo
	signTime time.Duration
}

func newSummary(repo string, setting func() Summary) *summary {
	return &summary{repo: repo, setting: setting, signTime: signTime}
}

// look tells whether to write the summary, and if not although clients read it,
// why.
func (s *summary) look() (write bool, why string, err error) {
	setting := s.setting()
	if setting == Elsewhere {
		return false, "", nil
	}
	there, err := exists(s.repo, "summary")
	if err != nil {
		return false, "", err
	}
	kept, err := keptByOthers(s.repo)
	if err != nil {
		return false, "", err
	}
	if kept != "" {
		s.kept = kept
	}
	switch {
	case setting == Never && (there || kept != ""):
		return false, "the server's configuration says never", nil
	case s.kept != "" && setting != Never:
		return false, s.kept, nil
	case setting == Always, setting == Never:
		return setting == Always, "", nil
	case !there && setting == First:
		return true, "", nil
	case !there:
		repo, err := ostree.OpenRepo(s.repo)
		return err == nil && repo.AutoUpdateSummary(), "", err
	}
	foreign, err := foreignKey(s.repo)
	if err != nil || foreign != "" {
		return false, foreign, err
	}
	return true, "", nil
}

// others are the files that say that another program keeps the summary, and why
// it is left to that. Writing the summary removes the first, and leaves the second
// as it was, which Flatpak's clients read instead of the summary.
var others = []struct{ file, why string }{
	{"summary.sig", "it is signed (summary.sig), and the key is not here"},
	{"summary.idx", "it has an index for Flatpak (summary.idx), which can only be written together with it"},
}

// keptByOthers tells why the summary has to be left to another program, "" if it
// has not.
func keptByOthers(repo string) (why string, err error) {
	for _, o := range others {
		there, err := exists(repo, o.file)
		if err != nil {
			return "", err
		}
		if there {
			return o.why, nil
		}
	}
	return "", nil
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

// write writes the summary if that is ours to do: at one rename, so that clients
// that read it see all refs of a session change at once. If it is left as it is
// although clients read it, it tells why.
func (s *summary) write(repo *libostree.Repo) (why string, err error) {
	write, why, err := s.look()
	if err != nil || !write {
		return why, err
	}
	// Who writes it takes the shared lock: nobody begins to between the look and here.
	unlock, err := lockAlone(repo)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if err := s.awaitSignature(); err != nil {
		return "", err
	}
	if write, why, err = s.look(); err != nil || !write {
		return why, err
	}
	if err := fault.Point("write the summary", repo.RegenerateSummary); err != nil {
		return "", err
	}
	return "", s.remember()
}

// signTime is how long after another program wrote the summary its signature may
// follow. libostree holds no lock in between, and signs what it wrote: a summary that
// is written meanwhile would be there with a bad signature, or without.
const signTime = 2 * time.Second

// awaitSignature waits until a summary that another program has just written is
// signed, or old enough to stay unsigned.
func (s *summary) awaitSignature() error {
	for began := time.Now(); time.Since(began) < s.signTime; time.Sleep(20 * time.Millisecond) {
		now, err := os.Stat(s.path())
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		known := s.known != nil && os.SameFile(now, s.known) && now.ModTime().Equal(s.known.ModTime())
		if known || time.Since(now.ModTime()) > s.signTime {
			return nil
		}
		if kept, err := keptByOthers(s.repo); err != nil || kept != "" {
			return err
		}
	}
	return nil
}

// remember notes the summary as one that no signature is to follow.
func (s *summary) remember() (err error) {
	s.known, err = os.Stat(s.path())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (s *summary) path() string { return filepath.Join(s.repo, "summary") }

// warn tells in the log, before there is a publish, that clients of the summary
// will not see it.
func (s *summary) warn(log *slog.Logger) {
	_, why, err := s.look()
	if err = errors.Join(err, s.remember()); err != nil {
		log.Warn("cannot look at the repository's summary", "err", err)
	}
	if why != "" {
		log.Warn("the repository's summary is left as it is; clients that read it will not see new commits until it is updated", "reason", why)
	}
}
