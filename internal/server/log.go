// SPDX-License-Identifier: AGPL-3.0-or-later

package server

import (
	"fmt"
	"io"
	"log/slog"

	"github.com/lirios/ostree-upload/internal/config"
)

// NewLog makes the server's log in a format of the configuration: config.LogText or
// config.LogJSON, which has durations in seconds.
func NewLog(w io.Writer, format string, level slog.Level) *slog.Logger {
	opt := &slog.HandlerOptions{Level: level}
	if format != config.LogJSON {
		return slog.New(slog.NewTextHandler(w, opt))
	}
	opt.ReplaceAttr = func(_ []string, a slog.Attr) slog.Attr {
		if a.Value.Kind() == slog.KindDuration {
			a.Value = slog.Float64Value(a.Value.Duration().Seconds())
		} else if s, ok := a.Value.Any().(fmt.Stringer); ok && a.Value.Kind() == slog.KindAny {
			a.Value = slog.StringValue(s.String()) // else JSON has a checksum as a list of numbers
		}
		return a
	}
	return slog.New(slog.NewJSONHandler(w, opt))
}
