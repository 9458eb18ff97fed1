// SPDX-License-Identifier: AGPL-3.0-or-later

package ostree

import (
	"fmt"
	"math/bits"
	"regexp"
	"strconv"

	"golang.org/x/sys/unix"
)

// Space is the room on the file system of a repository, in bytes.
type Space struct {
	Free    int64  // for others than root
	MinFree int64  // what the repository's own settings leave free of it
	Setting string // the one that says so, "" if none does
}

// Lacks tells whether need bytes more would leave less free than the repository's
// settings say.
func (s Space) Lacks(need int64) bool { return s.Setting != "" && s.Free-need < s.MinFree }

// Space looks how much room there is. libostree keeps its settings too, but only
// for content that it writes itself, and only when it does.
func (r *Repo) Space() (Space, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(r.path, &st); err != nil {
		return Space{}, fmt.Errorf("statfs %s: %w", r.path, err)
	}
	if r.beyond != nil { // its settings are for the disk that its objects are on
		return Space{Free: int64(st.Bavail) * st.Frsize}, nil
	}
	minFree, setting, err := r.minFree(st.Blocks * uint64(st.Frsize))
	if err != nil {
		return Space{}, fmt.Errorf("repository %s: %w", r.path, err)
	}
	return Space{Free: int64(st.Bavail) * st.Frsize, MinFree: int64(minFree), Setting: setting}, nil
}

// defaultMinFreePercent is libostree's, if neither setting is there.
const defaultMinFreePercent = "3"

// minFreeSize is the form of core.min-free-space-size.
var minFreeSize = regexp.MustCompile(`^([0-9]+)([MGT])B$`)

// minFree is how many bytes of a file system that has total of them are to stay
// free, and the setting that says so (ostree_repo_get_min_free_space_bytes).
func (r *Repo) minFree(total uint64) (bytes uint64, setting string, err error) {
	const sizeKey, percentKey = "core.min-free-space-size", "core.min-free-space-percent"
	size, hasSize := r.config[sizeKey]
	percent, hasPercent := r.config[percentKey]
	if hasSize {
		m := minFreeSize.FindStringSubmatch(size)
		if m == nil {
			return 0, "", fmt.Errorf("%s=%s is not of the form 123MB, 123GB or 123TB", sizeKey, size)
		}
		n, err := strconv.ParseUint(m[1], 10, 64)
		shift := map[string]int{"M": 20, "G": 30, "T": 40}[m[2]]
		if err != nil || bits.Len64(n)+shift > 63 {
			return 0, "", fmt.Errorf("%s=%s is too much", sizeKey, size)
		}
		if n > 0 {
			return n << shift, sizeKey + "=" + size, nil
		}
	}
	setting = percentKey + "=" + percent
	if !hasPercent {
		if hasSize {
			return 0, "", nil
		}
		percent = defaultMinFreePercent
		setting = percentKey + ", by default " + percent
	}
	n, err := strconv.ParseUint(percent, 10, 64)
	if err != nil || n > 99 {
		return 0, "", fmt.Errorf("%s=%s is not a number from 0 to 99", percentKey, percent)
	}
	if n == 0 {
		return 0, "", nil
	}
	high, low := bits.Mul64(total, n)
	bytes, _ = bits.Div64(high, low, 100) // high is at most 98
	return bytes, setting, nil
}
