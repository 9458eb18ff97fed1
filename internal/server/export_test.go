// SPDX-License-Identifier: AGPL-3.0-or-later

package server

// Listen is listen, for tests that serve as Serve does.
var Listen = listen
