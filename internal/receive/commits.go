// SPDX-License-Identifier: AGPL-3.0-or-later

package receive

import (
	"iter"
	"strings"
	"time"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
)

// What is told of commits: of how many for one request, and how much of a subject.
const (
	mostCommits = 200
	mostSubject = 200
)

// commits are what some commits say to people, of which "" is none. One that is nowhere,
// or damaged, is left out. Whoever asks sees a session or a ref that has them.
func (s *Server) commits(sums iter.Seq[string]) map[string]wire.CommitInfo {
	all := map[string]wire.CommitInfo{}
	staged, err := ostree.OpenRepo(s.cfg.Store.StagedPath())
	if err != nil { // then a session has more than this to tell
		s.cfg.Log.Debug("what is staged cannot be read", "err", err)
		return all
	}
	for sum := range sums {
		if _, known := all[sum]; known || sum == "" {
			continue
		}
		if len(all) == mostCommits {
			break
		}
		if info, found := commitInfo(sum, s.cfg.Repo, staged); found {
			all[sum] = info
		}
	}
	return all
}

// commitInfo reads a commit from one of the repositories.
func commitInfo(sum string, places ...*ostree.Repo) (wire.CommitInfo, bool) {
	checksum, err := ostree.ParseChecksum(sum)
	if err != nil {
		return wire.CommitInfo{}, false
	}
	for _, repo := range places {
		b, err := repo.Metadata(ostree.Name{Checksum: checksum, Type: ostree.CommitObject})
		if err != nil {
			continue
		}
		if c, err := ostree.ParseCommit(b); err == nil {
			return wire.CommitInfo{Subject: cutText(c.Subject, mostSubject), Time: timeOf(c.Time)}, true
		}
	}
	return wire.CommitInfo{}, false
}

// cutText is the first bytes of a text, which ends with a whole character.
func cutText(s string, most int) string {
	return strings.ToValidUTF8(s[:min(len(s), most)], "")
}

// farthest is the last time that a document can have.
var farthest = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)

// timeOf is a number of seconds since 1970 as a time; a commit can have any.
func timeOf(seconds uint64) time.Time {
	if seconds > uint64(farthest.Unix()) { // #nosec G115 -- it is positive
		return farthest
	}
	return time.Unix(int64(seconds), 0).UTC() // #nosec G115 -- as was just seen
}
