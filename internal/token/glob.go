// SPDX-License-Identifier: AGPL-3.0-or-later

package token

import (
	"fmt"
	"regexp"
	"strings"
)

// A glob is what a ref may consist of, and stars. Other wildcards are refused
// rather than taken literally: nobody who writes os/[ab] means these brackets.
var globForm = regexp.MustCompile(`^[-._A-Za-z0-9/*]+$`)

// CheckGlob reports what is no glob of refs.
func CheckGlob(glob string) error {
	switch {
	case !globForm.MatchString(glob):
		return fmt.Errorf("ref glob %.300q: only letters, digits and any of - . _ / * may be in it", glob)
	case strings.Contains(glob, "***"):
		return fmt.Errorf("ref glob %.300q: more than two stars in a row", glob)
	case strings.HasPrefix(glob, "/") || strings.HasSuffix(glob, "/") || strings.Contains(glob, "//"):
		return fmt.Errorf("ref glob %.300q can match no ref: a part of it is empty", glob)
	}
	return nil
}

// MatchGlob reports whether glob matches all of ref: * stands for any number
// of characters other than /, ** for any number of any.
//
// It goes through glob once and keeps every place in ref that could have been
// reached so far, so the time is bounded whatever the glob.
func MatchGlob(glob, ref string) bool {
	reached := make([]bool, len(ref)+1)
	reached[0] = true
	for glob != "" {
		switch {
		case strings.HasPrefix(glob, "**"):
			glob = glob[2:]
			spread(reached, func(int) bool { return true })
		case glob[0] == '*':
			glob = glob[1:]
			spread(reached, func(i int) bool { return ref[i] != '/' })
		default:
			step(reached, ref, glob[0])
			glob = glob[1:]
		}
	}
	return reached[len(ref)]
}

// spread lets every place reach the next one across each character that may.
func spread(reached []bool, may func(int) bool) {
	for i := range len(reached) - 1 {
		if reached[i] && may(i) {
			reached[i+1] = true
		}
	}
}

// step moves every place across one character c.
func step(reached []bool, ref string, c byte) {
	for i := len(reached) - 1; i > 0; i-- {
		reached[i] = reached[i-1] && ref[i-1] == c
	}
	reached[0] = false
}
