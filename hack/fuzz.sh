#!/bin/sh
# SPDX-License-Identifier: AGPL-3.0-or-later
#
# Runs each fuzz target of the tree, one after the other, FUZZTIME each. What goes to a
# server never takes the same way twice, and could be made smaller for ever.
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
	go test -run '^$' -fuzz "^$target\$" -fuzztime "${FUZZTIME:-20s}" -fuzzminimizetime 1s "$package"
done <"$targets"
