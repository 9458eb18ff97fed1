#!/bin/sh
# SPDX-License-Identifier: AGPL-3.0-or-later
#
#   hack/tables.sh deflate|normal TABLE
#
# Writes a table of verdicts anew: the inputs stay, in their order, and zlib or GLib
# of this machine says again what it makes of each. An input is a line's first
# field (deflate) or its first two (normal); a line that is added needs no more.
set -eu
cd "$(dirname "$0")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

case $1 in
deflate) fields=1 ;;
normal) fields=1,2 ;;
*) echo "usage: hack/tables.sh deflate|normal TABLE" >&2 && exit 2 ;;
esac
# shellcheck disable=SC2046 # several flags
gcc -O2 -Wall -o "$work/judge" "hack/tables/$1.c" $(pkg-config --cflags --libs glib-2.0 zlib)
grep -v '^#' "$2" | cut -d ' ' -f "$fields" | "$work/judge" >"$work/table"
cp "$work/table" "$2"
