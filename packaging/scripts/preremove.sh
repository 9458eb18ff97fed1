#!/bin/sh
# SPDX-License-Identifier: AGPL-3.0-or-later
#
# Before the package goes, which dpkg says by "remove" and rpm by 0, and not before an
# upgrade. Configuration, repository and user stay.
set -e

case $1 in
remove | 0)
	if [ -d /run/systemd/system ]; then
		systemctl --no-reload disable --now ostree-upload.socket ostree-upload.service
	fi
	;;
esac
