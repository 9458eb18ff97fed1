// SPDX-License-Identifier: AGPL-3.0-or-later

// Package units reads and writes sizes and durations as people do: 8GiB, 10MB,
// 30s, 90d. Sizes are bytes.
package units

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Size is a number of bytes, written with its unit: 8GiB, 1MiB, 10MB, or 0.
type Size int64

// units from the largest to the smallest, so that String finds the largest
// binary one that divides evenly.
var units = []struct {
	name  string
	bytes int64
}{
	{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
	{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}, {"KB", 1e3}, {"B", 1},
}

// ParseSize reads a whole number with a unit of bytes; only 0 needs no unit.
func ParseSize(s string) (Size, error) {
	digits := strings.TrimRight(s, "BKMGTik ")
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || digits[0] == '+' || digits[0] == '-' {
		return 0, fmt.Errorf("%q is not a size such as 8GiB, 10MB or 0", s)
	}
	unit := strings.TrimLeft(s[len(digits):], " ")
	if unit == "" && n == 0 {
		return 0, nil
	}
	for _, u := range units {
		if u.name != unit {
			continue
		}
		if n > math.MaxInt64/u.bytes {
			return 0, fmt.Errorf("%q is more than a size can be", s)
		}
		return Size(n * u.bytes), nil
	}
	return 0, fmt.Errorf("%q needs a unit: B, KiB, MiB, GiB, TiB, kB, MB, GB or TB", s)
}

// String writes the size so that ParseSize reads the same one back.
func (s Size) String() string {
	if s == 0 {
		return "0"
	}
	for _, u := range units {
		if int64(s)%u.bytes == 0 {
			return strconv.FormatInt(int64(s)/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10) + "B"
}

// UnmarshalText lets command-line flags hold a Size.
func (s *Size) UnmarshalText(text []byte) (err error) {
	*s, err = ParseSize(string(text))
	return err
}

// Rate is a number of bytes per second, written as a Size, perhaps with /s behind it.
type Rate int64

// UnmarshalText lets command-line flags hold a Rate.
func (r *Rate) UnmarshalText(text []byte) error {
	s := string(text)
	size, err := ParseSize(strings.TrimSuffix(s, "/s"))
	if err != nil {
		return fmt.Errorf("%q is not a number of bytes a second such as 500kB or 2MB", s)
	}
	*r = Rate(size)
	return nil
}

// String writes the rate so that UnmarshalText reads the same one back.
func (r Rate) String() string { return Size(r).String() }

// Duration is a time span, written with its units: 30s, 1h30m, 168h, 90d.
type Duration time.Duration

// ParseDuration reads what time.ParseDuration does, and days of 24 hours in
// front of it: 90d, 1d12h. Negative spans are errors.
func ParseDuration(s string) (Duration, error) {
	days, rest := time.Duration(0), s
	if head, tail, ok := strings.Cut(s, "d"); ok {
		n, err := strconv.ParseUint(head, 10, 16)
		if err != nil {
			return 0, badDuration(s)
		}
		days, rest = time.Duration(n)*24*time.Hour, tail
	}
	var d time.Duration
	if rest != "" || s == "" {
		var err error
		if d, err = time.ParseDuration(rest); err != nil {
			return 0, badDuration(s)
		}
	}
	if d < 0 || days+d < 0 {
		return 0, badDuration(s)
	}
	return Duration(days + d), nil
}

func badDuration(s string) error {
	return fmt.Errorf("%q is not a duration such as 30s, 168h or 90d", s)
}

// String is time.Duration's.
func (d Duration) String() string { return time.Duration(d).String() }

// MarshalText writes what UnmarshalText reads.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText lets command-line flags hold a Duration.
func (d *Duration) UnmarshalText(text []byte) (err error) {
	*d, err = ParseDuration(string(text))
	return err
}
