// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build !race

package site

// UnderRace tells whether tests and program watch for data races.
const UnderRace = false
