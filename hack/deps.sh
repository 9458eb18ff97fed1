#!/bin/sh
# SPDX-License-Identifier: AGPL-3.0-or-later
#
# Installs what the build and the tests need and this machine lacks: libostree
# with its headers, the ostree command, pkg-config and a C compiler. Does
# nothing, and needs no root, if all is there.
set -eu

complete() {
	command -v gcc && command -v ostree && command -v pkg-config &&
		pkg-config --exists ostree-1
} >/dev/null 2>&1

if complete; then
	exit 0
fi

root=
if [ "$(id -u)" != 0 ]; then
	root=sudo
fi

if command -v apt-get >/dev/null; then
	packages="libostree-dev ostree pkg-config gcc libc6-dev"
	refresh="apt-get update -q"
	install="env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends"
elif command -v dnf >/dev/null; then
	packages="ostree-devel ostree pkgconf-pkg-config gcc"
	refresh=
	install="dnf install -y"
else
	echo "install these first: libostree with its headers, ostree, pkg-config, gcc" >&2
	exit 1
fi

if [ -n "$root" ] && ! command -v sudo >/dev/null; then
	echo "install these first, as root: $packages" >&2
	exit 1
fi

echo "installing $packages" >&2
# Lists may be stale and still good enough; the installation decides.
[ -z "$refresh" ] || $root $refresh || true
$root $install $packages
complete || {
	echo "something of $packages is still missing" >&2
	exit 1
}
