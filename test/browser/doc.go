// SPDX-License-Identifier: AGPL-3.0-or-later

// Package browser tests the operator's page in a real Chromium, with a running server and
// real pushes.
package browser
