#!/bin/sh
# SPDX-License-Identifier: AGPL-3.0-or-later
#
#   hack/deps.sh build   installs what a build needs and this machine lacks:
#                        libostree with its headers, pkg-config and a C compiler
#   hack/deps.sh         and what the tests need: the commands ostree and flatpak
#   hack/deps.sh browser installs chromium; without it the tests of the page are skipped
#
# Does nothing, and needs no root, if all is there.
set -eu

for_build() {
	command -v "${CC:-gcc}" && command -v pkg-config && pkg-config --exists ostree-1
}

complete() {
	[ "$wanted" != browser ] || { command -v chromium; return; }
	for_build && { [ "$wanted" = build ] || { command -v ostree && command -v flatpak; }; }
}

wanted=${1-tests}
if complete >/dev/null 2>&1; then
	exit 0
fi

root=
if [ "$(id -u)" != 0 ]; then
	root=sudo
fi

if command -v apt-get >/dev/null; then
	packages="libostree-dev pkg-config gcc libc6-dev"
	refresh="apt-get update -q"
	install="env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends"
elif command -v dnf >/dev/null; then
	packages="ostree-devel pkgconf-pkg-config gcc"
	refresh=
	install="dnf install -y"
else
	echo "install these first: libostree with its headers, pkg-config, gcc; for tests ostree and flatpak, too" >&2
	exit 1
fi
case $wanted in
build) ;;
browser) packages=chromium ;;
*) packages="$packages ostree flatpak" ;;
esac

if [ -n "$root" ] && ! command -v sudo >/dev/null; then
	echo "install these first, as root: $packages" >&2
	exit 1
fi

echo "installing $packages" >&2
# Lists may be stale and still good enough; the installation decides.
[ -z "$refresh" ] || $root $refresh || true
$root $install $packages
complete >/dev/null 2>&1 || {
	echo "something of $packages is still missing" >&2
	exit 1
}
