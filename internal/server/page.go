// SPDX-License-Identifier: AGPL-3.0-or-later

package server

import (
	"log/slog"
	"net"
	"net/http"
	"path/filepath"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/console"
	"github.com/lirios/ostree-upload/internal/receive"
)

// newPage makes the operator's page, which keeps its sign-ins in a state folder.
func newPage(api http.Handler, settings func() *config.Config, state string, log *slog.Logger) *console.Console {
	return console.New(console.Config{API: api, Settings: settings, Keep: filepath.Join(state, "page-sign-ins.json"), Log: log})
}

// doors are where requests come in: the page has its own, or is beside the API while the
// configuration says so.
func doors(api http.Handler, listeners []net.Listener, page *console.Console, pageAt net.Listener) []receive.Door {
	if pageAt == nil {
		return []receive.Door{{Handler: page.Beside(api), Listeners: listeners}}
	}
	return []receive.Door{{Handler: api, Listeners: listeners}, {Handler: page.Alone(), Listeners: []net.Listener{pageAt}}}
}
