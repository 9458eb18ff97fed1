// SPDX-License-Identifier: AGPL-3.0-or-later

package units

import "fmt"

// Thousands is n with commas between groups of three digits.
func Thousands(n int64) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%s,%03d", Thousands(n/1000), n%1000)
}

// Count is n and what it counts, in the right number.
func Count(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return Thousands(n) + " " + many
}

// Amount is a number of bytes as people say it.
func Amount(n int64) string {
	for _, unit := range []struct {
		name string
		size int64
	}{{"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}} {
		if n >= 10*unit.size {
			return fmt.Sprintf("%s %s", Thousands(n/unit.size), unit.name)
		}
	}
	return fmt.Sprintf("%s bytes", Thousands(n))
}
