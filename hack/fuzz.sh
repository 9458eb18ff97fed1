#!/bin/sh
# SPDX-License-Identifier: AGPL-3.0-or-later
#
# Runs each fuzz target of the tree, one after the other, with FUZZRUNS inputs each.
# They are counted, not timed: when a time is over, the fuzzer of Go now and then takes
# its own "context deadline exceeded" for a failure of the target. What goes to a server
# never takes the same way twice, and could be made smaller for ever.
set -eu

targets=$(mktemp)
trap 'rm -f "$targets"' EXIT

# `go test -list` prints the names of a package's targets and then a line with
# "ok" and the package.
go test -list '^Fuzz' ./... | awk '
	/^Fuzz/ { names[++n] = $1 }
	$1 == "ok" || $1 == "?" { for (i = 1; i <= n; i++) print $2, names[i]; n = 0 }
	$1 == "FAIL" { failed = 1 }
	END { exit failed }' >"$targets"

while read -r package target; do
	echo "$package $target"
	runs=${FUZZRUNS:-200000}
	case $target in
	FuzzRequests) runs=$((runs / 500 + 1)) ;; # an input is a whole session of requests
	esac
	go test -run '^$' -fuzz "^$target\$" -fuzztime "${runs}x" -fuzzminimizetime 1s "$package"
done <"$targets"
