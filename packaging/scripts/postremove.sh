#!/bin/sh
# SPDX-License-Identifier: AGPL-3.0-or-later
set -e

if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
fi
