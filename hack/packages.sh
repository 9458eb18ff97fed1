#!/bin/sh
# SPDX-License-Identifier: AGPL-3.0-or-later
#
#   hack/packages.sh VERSION   makes bin/packages/*.deb and *.rpm
#
# VERSION is that of the programs, by git describe. The same commit gives the same
# bytes, with the same compiler and libraries.
set -eu
cd "$(dirname "$0")/.."

version=$1
go=${GO:-go}
nfpm=github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.2

# package_version is VERSION in an order that dpkg and rpm understand: v1.2.3-rc1 comes
# before v1.2.3, and v1.2.3-4-gabcdef behind it. Before the first tag the number of
# commits counts.
package_version() {
	echo "$version" | sed -E '
		s/-dirty$/+dirty/
		s/^v//
		s/-([0-9]+)-g([0-9a-f]+)/+\1.g\2/
		s/-/~/g
		/^[0-9]+\./!s/^/0+'"$(git rev-list --count HEAD)"'.g/'
}

# glibc is the oldest C library that has all that the program takes from it.
glibc() {
	objdump -T bin/ostree-upload | sed -n 's/.*(GLIBC_\([0-9.]*\)).*/\1/p' | sort -uV | tail -n 1
}

if [ -z "${SOURCE_DATE_EPOCH:-}" ]; then
	SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
fi
export SOURCE_DATE_EPOCH
PACKAGE_VERSION=$(package_version)
ARCH=$($go env GOARCH)
GLIBC=$(glibc)
export PACKAGE_VERSION ARCH GLIBC

rm -rf bin/packages
mkdir -p bin/packages
for program in ostree-upload ostree-upload-client; do
	install -m 0755 "bin/$program" "bin/packages/$program"
	strip --strip-unneeded "bin/packages/$program"
	gzip -9n <"packaging/generated/$program.1" >"bin/packages/$program.1.gz"
done
gzip -9n <CHANGELOG.md >bin/packages/changelog.gz
for package in server client; do
	for format in deb rpm; do
		$go run "$nfpm" package --config "packaging/nfpm/$package.yaml" --packager "$format" --target bin/packages
	done
done
