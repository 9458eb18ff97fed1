#!/bin/sh
# SPDX-License-Identifier: AGPL-3.0-or-later
#
# Looks for known vulnerabilities of the Go release that go.mod names and of the
# modules, as far as they are called (govulncheck), and for patterns of unsafe code in
# what is installed (gosec). Both have to find nothing. It needs Go's module proxy.
set -eu

govulncheck=golang.org/x/vuln/cmd/govulncheck@v1.9.0
gosec=github.com/securego/gosec/v2/cmd/gosec@v2.30.0

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The database comes as a module, too: its own server is not reached from everywhere.
source=$(go mod download -json golang.org/x/vulndb@latest | sed -n 's/^\t*"Dir": "\(.*\)",$/\1/p')
go run golang.org/x/vulndb/cmd/indexdb@latest -out "$work/db" -vulns "$source/data/osv"
GOTOOLCHAIN=$(sed -n 's/^toolchain //p' go.mod) go run "$govulncheck" -db "file://$work/db" ./...

# What gosec is not asked for, and why. Single findings have their reason in a comment
# `#nosec` where they are.
#
#   G115  a number converted to another type: sizes that come from outside are bounded
#         where they are read (ostree.FileHeader, encode.Reader, wire.PackReader), and
#         fuzzed; all others are lengths, and bits that were masked
#   G301  folders of a repository have the mode that libostree gives them, by the umask;
#   G302  so have its files, and the state folder, which is within or apart, has 0700
#   G306  the same
#   G304  paths are those of the configuration, of the command line, and of names of
#         objects, refs and uploads, which are checked where they are read
go run "$gosec" -quiet -exclude=G115,G301,G302,G306,G304 \
	./cmd/... ./internal/... ./journal/... ./publish/... ./tusstore/...
