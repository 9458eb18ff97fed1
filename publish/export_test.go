// SPDX-License-Identifier: AGPL-3.0-or-later

package publish

import "log/slog"

// WarnOfSummary is what a start does about the summary.
func WarnOfSummary(repo string, setting Summary, log *slog.Logger) {
	(&summary{repo: repo, setting: func() Summary { return setting }}).warn(log)
}
