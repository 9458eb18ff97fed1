#!/bin/sh
# SPDX-License-Identifier: AGPL-3.0-or-later
#
# Installs what `make bench` compares with and this Debian machine lacks: rsync,
# rclone, the servers of SSH and of the web, and the lists of Debian's packages. The
# servers are not started: the benchmark runs its own.
set -eu

PATH=$PATH:/usr/sbin

missing=
for pair in rsync:rsync sshd:openssh-server ssh:openssh-client nginx:nginx-light mkfs.ext4:e2fsprogs rclone:rclone; do
	command -v "${pair%%:*}" >/dev/null || missing="$missing ${pair#*:}"
done
# Of some package of the update there have to be two versions.
lists=$(apt-cache madison openjdk-17-jre-headless 2>/dev/null | grep -c Packages || true)

if [ -z "$missing" ] && [ "$lists" -ge 2 ]; then
	exit 0
fi
if [ "$(id -u)" != 0 ]; then
	echo "run hack/bench-deps.sh as root first; missing:$missing" >&2
	exit 1
fi
apt-get update -q >&2 || true # lists may be stale and still good enough
[ -n "$missing" ] || exit 0

# Debian starts servers as it installs them, unless a policy forbids it.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
	trap 'rm -f "$policy"' EXIT
	printf '#!/bin/sh\nexit 101\n' >"$policy"
	chmod 755 "$policy"
fi
# shellcheck disable=SC2086 # several packages
DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing >&2
