// SPDX-License-Identifier: AGPL-3.0-or-later

package server

import (
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/lirios/ostree-upload/internal/config"
)

// maxValue is how many bytes of a value stand in a line: some repeat what a stranger
// has sent.
const maxValue = 2000

// NewLog makes the server's log in a format of the configuration: config.LogText or
// config.LogJSON, which has durations in seconds.
func NewLog(w io.Writer, format string, level slog.Level) *slog.Logger {
	opt := &slog.HandlerOptions{Level: level, ReplaceAttr: bounded}
	if format != config.LogJSON {
		return slog.New(slog.NewTextHandler(w, opt))
	}
	opt.ReplaceAttr = func(groups []string, a slog.Attr) slog.Attr {
		if a.Value.Kind() == slog.KindDuration {
			a.Value = slog.Float64Value(a.Value.Duration().Seconds())
		} else if s, ok := a.Value.Any().(fmt.Stringer); ok && a.Value.Kind() == slog.KindAny {
			a.Value = slog.StringValue(s.String()) // else JSON has a checksum as a list of numbers
		}
		return bounded(groups, a)
	}
	return slog.New(slog.NewJSONHandler(w, opt))
}

// bounded cuts a value that is too long.
func bounded(_ []string, a slog.Attr) slog.Attr {
	text := ""
	switch v := a.Value.Any().(type) {
	case string:
		text = v
	case error:
		text = v.Error()
	}
	if len(text) > maxValue {
		a.Value = slog.StringValue(strings.ToValidUTF8(text[:maxValue], "") + "…")
	}
	return a
}
