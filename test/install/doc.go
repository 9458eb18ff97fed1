// SPDX-License-Identifier: AGPL-3.0-or-later

// Package install has tests of what people install: units, packages and images. Those
// that boot a machine or build an image take minutes: `make packages-test` and `make
// image-test` run them.
package install
