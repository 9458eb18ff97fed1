#!/bin/sh
# SPDX-License-Identifier: AGPL-3.0-or-later
#
#   hack/changelog.sh check             each file of changelog/unreleased has the form
#   hack/changelog.sh release VERSION   move them into CHANGELOG.md, as this release
#
# The form of a file is:
#
#   Fix: what was wrong, in the operator's words, without a full stop
#
#   What was wrong, and for whom. Now this is so instead.
#
# The kinds are Security, Change, Fix and New; all but New say what is so now. A line
# has at most 80 characters.
set -eu
cd "$(dirname "$0")/.."

dir=changelog/unreleased

entries() {
	for file in "$dir"/*; do
		[ ! -e "$file" ] || echo "$file"
	done
}

check() {
	entries | {
		bad=0
		while read -r file; do
			awk '
				function bad(why) { print FILENAME ":" FNR ": " why; wrong = 1 }
				FILENAME !~ /\/[a-z0-9-]+\.md$/ && FNR == 1 { bad("the name is not of the form a-few-words.md") }
				FNR == 1 && !/^(Security|Change|Fix|New): [^ ].*[^.]$/ { bad("not \"Security|Change|Fix|New: a title without a full stop\"") }
				FNR == 1 { kind = $1 }
				FNR == 2 && $0 != "" { bad("not empty") }
				FNR == 3 && $0 !~ /^[A-Z0-9`]/ { bad("the text does not begin here, with a sentence") }
				length($0) > 80 { bad("longer than 80 characters") }
				/[ \t]$/ { bad("ends in a blank") }
				FNR > 2 { text = text "\n" $0 }
				END {
					if (FNR < 3) bad("there is no text")
					if (kind != "New:" && text !~ /(^|[ \n])Now[ ,\n]/) bad("no sentence says what is so now, beginning with Now")
					if (text ~ /\n$/) bad("ends in an empty line")
					exit wrong
				}' "$file" || bad=1
		done
		return "$bad"
	}
}

# section prints the release: its changes by kind, each as an item of a list.
section() {
	printf '## %s (%s)\n' "$1" "$(date -u +%Y-%m-%d)"
	for kind in Security Change Fix New; do
		entries | while read -r file; do
			awk -v kind="$kind" '
				FNR == 1 && index($0, kind ": ") != 1 { exit }
				FNR == 1 { print "\n- **" $0 ".**" }
				FNR > 2 { print $0 == "" ? "" : "  " $0 }' "$file"
		done
	done
}

release() {
	check
	[ -n "$(entries)" ] || { echo "$dir has no file: nothing changed" >&2 && exit 1; }
	if grep -q "^## $1 " CHANGELOG.md; then
		echo "CHANGELOG.md has a release $1" >&2
		exit 1
	fi
	work=$(mktemp)
	trap 'rm -f "$work"' EXIT
	# The new release stands before the others, behind the introduction.
	sed '/^## /,$d' CHANGELOG.md | sed -e :a -e '/^\n*$/{$d;N;ba' -e '}' >"$work"
	{ echo && section "$1"; } >>"$work"
	if grep -q '^## ' CHANGELOG.md; then
		{ echo && sed -n '/^## /,$p' CHANGELOG.md; } >>"$work"
	fi
	cat "$work" >CHANGELOG.md
	entries | while read -r file; do rm "$file"; done
}

case "${1:-} ${2:-}" in
"check ") check ;;
"release "?*) release "$2" ;;
*) echo "usage: hack/changelog.sh check | release VERSION" >&2 && exit 2 ;;
esac
