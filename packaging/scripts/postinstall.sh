#!/bin/sh
# SPDX-License-Identifier: AGPL-3.0-or-later
#
# After an installation or an upgrade, by dpkg or rpm. The service is not started by an
# installation, as it has no token yet; one that runs is restarted.
set -e

systemd-sysusers ostree-upload.conf
systemd-tmpfiles --create ostree-upload.conf

# The service reads the configuration by its group. Another one that somebody has
# given it stays.
for path in /etc/ostree-upload /etc/ostree-upload/ostree-upload.yaml; do
	if [ -e "$path" ] && [ "$(stat -c %g "$path")" = 0 ]; then
		chgrp ostree-upload "$path"
	fi
done

if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
	systemctl try-restart ostree-upload.service
fi
