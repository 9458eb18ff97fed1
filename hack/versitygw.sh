#!/bin/sh
# SPDX-License-Identifier: AGPL-3.0-or-later
#
#   hack/versitygw.sh DIR   builds versitygw into a folder: the S3 store that tests,
#                           the benchmark and the demo run
#
# Tests of the store are skipped without. Does nothing if there is one, and only says
# so if there can be none. A first build takes some 90 seconds of one core.
set -eu

version=v1.8.0

dir=$1
if command -v versitygw >/dev/null || [ -x "$dir/versitygw" ] || [ -x "$(go env GOPATH)/bin/versitygw" ]; then
	exit 0
fi
mkdir -p "$dir"
echo "building versitygw $version" >&2
GOBIN=$(cd "$dir" && pwd) go install "github.com/versity/versitygw/cmd/versitygw@$version" ||
	echo "no versitygw: what needs an object store will not be tested" >&2
