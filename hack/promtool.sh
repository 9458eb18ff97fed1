#!/bin/sh
# SPDX-License-Identifier: AGPL-3.0-or-later
#
#   hack/promtool.sh DIR   puts promtool into a folder, from Debian's package of
#                          Prometheus, and installs nothing else of that
#
# The test of the alert rules uses it, and is skipped without. Does nothing if
# there is one, and only says so if there can be none.
set -eu

dir=$1
if command -v promtool >/dev/null || [ -x "$dir/promtool" ]; then
	exit 0
fi
if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
	echo "no promtool: the alert rules will not be tested" >&2
	exit 0
fi

from=$(mktemp -d)
trap 'rm -rf "$from"' EXIT
if (cd "$from" && { apt-get download -q prometheus || { apt-get update -q && apt-get download -q prometheus; }; }) >&2; then
	mkdir -p "$dir"
	dpkg-deb --fsys-tarfile "$from"/prometheus_*.deb | tar -x -C "$from" ./usr/bin/promtool
	mv "$from/usr/bin/promtool" "$dir/promtool"
else
	echo "no promtool: the alert rules will not be tested" >&2
fi
