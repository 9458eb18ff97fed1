#!/bin/sh
# SPDX-License-Identifier: AGPL-3.0-or-later
#
# Installs what `make packages-test` and `make image-test` need on Debian and Ubuntu,
# and what the tests of completions and manual pages use if it is there.
set -eu

packages="mmdebstrap systemd-container dpkg rpm buildah groff mandoc zsh fish nginx-light"
complete() {
	for program in mmdebstrap systemd-nspawn dpkg-deb rpm buildah groff mandoc zsh fish nginx; do
		command -v "$program" >/dev/null || return 1
	done
}

if complete; then
	exit 0
fi
if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
	echo "install these first, as root: $packages" >&2
	exit 1
fi
apt-get update -q || true # lists may be stale and still good enough
DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $packages
